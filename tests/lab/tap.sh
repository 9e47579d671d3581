# SPDX-License-Identifier: GPL-2.0-only
# Sourced by the tests of this folder: TAP output, and lab/run with its output caught.
# shellcheck shell=bash
set -uo pipefail

cd "$(dirname "$0")/../.." || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
count=0 failed=0

# lab ARG...: runs lab/run; leaves $status, $work/out and $work/err
lab() {
	lab/run --kernel "${kernel-patched}" --timeout "${limit-300}" "$@" >"$work/out" 2>"$work/err"
	status=$?
}

# ok WHAT COMMAND...: one result; COMMAND decides
ok() {
	local what=$1
	shift
	count=$((count + 1))
	if "$@"; then
		echo "ok $count - $what"
		return
	fi
	failed=$((failed + 1))
	echo "not ok $count - $what"
	echo "# failed: $*"
	echo "# lab/run ended with ${status-}; its stdout and stderr:"
	head -c 2000 "$work/out" "$work/err" 2>/dev/null | tr -d '\000' | sed 's/^/#   /'
}

status_is() { [ "$status" = "$1" ]; }
out_is() { printf '%s' "$1" | cmp -s - "$work/out"; }
err_is() { printf '%s' "$1" | cmp -s - "$work/err"; }
err_has() { grep -qE -- "$1" "$work/err"; }

# log: the console log lab/run named
log() { grep -o 'build/logs/[^ ;:,]*' "$work/err"; }
log_has() { grep -qE -- "$1" "$(log)"; }

finish() {
	echo "1..$count"
	[ "$failed" = 0 ]
}
