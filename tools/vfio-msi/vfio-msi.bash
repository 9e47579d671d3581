# SPDX-License-Identifier: GPL-2.0-only
# Completion of vfio-msi for bash.
# shellcheck shell=bash

_vfio_msi() {
	local word=$2 previous=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} sysfs=${VFIO_MSI_SYSFS:-/sys}
	local device words=()

	# bash takes the colons of 0000:01:00.0 for the ends of words; bash-completion mends that where it is.
	if declare -F _get_comp_words_by_ref >/dev/null; then
		_get_comp_words_by_ref -n : -c word -p previous
	fi
	COMPREPLY=()
	if [ "$COMP_CWORD" = 1 ]; then
		words=(show plan check --help --version)
		[ "${word#-}" != "$word" ] || words=(show plan check)
	elif [ "$previous" = --sysfs ]; then
		mapfile -t COMPREPLY < <(compgen -d -- "$word")
		return
	elif [ "$previous" = --ram ] || [ "$previous" = --hotplug ]; then
		return
	elif [ "${word#-}" != "$word" ]; then
		words=(--json --help --sysfs)
		[ "$command" = check ] || words+=(--plain)
		[ "$command" != plan ] || words+=(--ram --hotplug)
	else
		# check takes only those that are bound.
		for device in "$sysfs"/bus/pci/devices/*; do
			[ -e "$device/iommu_group" ] || continue
			[ "$command" != check ] || [ "$(basename "$(readlink "$device/driver")")" = vfio-pci ] || continue
			words+=("${device##*/}")
		done
		if [ "$command" = show ]; then
			for device in "$sysfs"/kernel/iommu_groups/*; do
				[ ! -e "$device" ] || words+=("${device##*/}")
			done
		fi
	fi
	mapfile -t COMPREPLY < <(compgen -W "${words[*]}" -- "$word")
	if declare -F __ltrim_colon_completions >/dev/null; then
		__ltrim_colon_completions "$word"
	fi
}

complete -F _vfio_msi vfio-msi
