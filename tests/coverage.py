# SPDX-License-Identifier: GPL-2.0-only
"""Which lines that the series add to drivers/ do the tests execute?

Boots the kernel `coverage`, which counts with gcov, runs the KUnit tests and the selftests of the series in it, and prints
the figure and every line that was not executed. Each of those has to be in tests/coverage/unreached, with the reason why no
test can reach it, and what is there must still be true. Called by `make coverage` in the tool root.

A line counts if the compiler made code of it; declarations, comments and what it joined with another line do not.
"""

import collections
import glob
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

from lab.kernel.kernels import SOURCES
from lab.tree import tree
from tests import reasons
from tests.suites import IOMMUFD, own

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

LINUX = tree.Tree(SOURCES["patched"].base)
OUT = "build/coverage"
OBJECTS = "build/kernel/coverage"  # /out of the build
MODULE = "build/module/coverage"  # the modules of tests/module, and their tests
UNREACHED = "tests/coverage/unreached"

TYPE1 = "/opt/vfio-selftests/vfio_reserved_msi_%s_test -V iommufd_compat_type1 -V iommufd_compat_type1v2"

# What is executed in different guests adds up: all our programs in three on one machine, side by side because they mostly wait for
# devices, and on other machines those that execute more of the drivers. (With virtio-iommu there is a reserved region that is no
# default window. iommufd's containers are met with mock devices.)
GUESTS = {
    "fail_nth": ("smmuv3", TYPE1 % "f*"),
    "iova": ("smmuv3", TYPE1 % "i*", "vfio_iommufd_msi_window_test", *(shlex.join([program, *own(program)]) for program in IOMMUFD)),
    "others": ("smmuv3", TYPE1 % "[!fi]*", "./pin_test", "./resv_test $VFIO_VECTORS_BDF"),
    "gicv2m": ("gicv2m", "vfio_reserved_msi_fail_nth_test"),
    "virtio-iommu": ("virtio-iommu", "vfio_reserved_msi_iova_test", "vfio_reserved_msi_untranslated_test -t over_resv_region", "./pin_test"),
}

# Everything is run, whatever fails. Exit status 4 is a program that skipped all of its tests.
SCRIPT = """
cat /sys/kernel/debug/kunit/*/results
failed=0
run() {
	"$@" $VFIO_IGB_BDFS
	status=$?
	[ $status = 0 ] || [ $status = 4 ] || { echo "$1 ended with $status"; failed=1; }
}
insmod vfio_pin.ko
insmod iommu_resv.ko
$PROGRAMS
cd /sys/kernel/debug/gcov
find . -name '*.gcda' | while read -r file; do
	mkdir -p "/mnt/${file%/*}"
	cat "$file" >"/mnt/$file"
done
exit $failed
"""


class Failed(Exception):
    pass


def command(guest):
    """What runs the tests of one, and leaves the counts in its share."""
    machine, *programs = GUESTS[guest]
    share = f"{OUT}/{guest}"
    shutil.copytree(MODULE, share)
    # A pattern is several programs.
    loops = "\n".join(f"for program in {words[0]}; do run $program {' '.join(words[1:])}; done" for words in map(str.split, programs))
    options = ["--kernel", "coverage", "--machine", machine, "--share", share, "--timeout", "1200"]
    return shlex.join(["lab/run", *options, "--", "sh", "-c", SCRIPT.replace("$PROGRAMS", loops)])


def run_tests():
    """Run them all, and return the files with the counts."""
    shutil.rmtree(OUT, ignore_errors=True)
    log = "build/logs/coverage.log"
    started = "".join(f"({command(guest)} 2>&1 | sed 's/^/{guest}: /') & guests=\"$guests $!\"\n" for guest in GUESTS)
    script = f"set -o pipefail; guests=\n{started}failed=0; for guest in $guests; do wait $guest || failed=1; done; exit $failed"
    status = subprocess.run(["lab/step", "coverage: tests", log, "tests", r": +(not )?ok [0-9]", "bash", "-c", script], check=False).returncode
    if status:
        raise Failed(f"what they executed says nothing while they fail: see {log}")
    return glob.glob(f"{OUT}/*/out/**/*.gcda", recursive=True)


def counts_of(data):
    """(file, line) -> (function, how often it was executed), for the object whose counts are in data."""
    where = os.path.dirname(data)
    notes = os.path.splitext(f"{OBJECTS}/{data.partition('/out/')[2]}")[0] + ".gcno"
    shutil.copy2(notes, where)
    result = subprocess.run(
        ["aarch64-linux-gnu-gcov", "--json-format", "--stdout", os.path.basename(data)], cwd=where, capture_output=True, check=False
    )
    if result.returncode or not result.stdout:
        raise Failed(f"gcov does not read {data}: {result.stderr.decode()}")
    found = {}
    for file in json.loads(result.stdout)["files"]:
        name = file["file"].removeprefix("/src/")
        for line in file["lines"]:
            key = name, line["line_number"]
            found[key] = line.get("function_name", ""), line["count"] + found.get(key, ("", 0))[1]
    return found


def added():
    """(file, line) -> its text, for all that the tree, as it is, adds to drivers/. Tests are not what is tested."""
    found = {}
    name, number = "", 0
    for line in tree.git(LINUX.path, "diff", "-U0", "--no-ext-diff", "--no-renames", "--default-prefix", LINUX.unpatched, "--", "drivers/*.[ch]").splitlines():
        if line.startswith("+++ "):
            name = line.removeprefix("+++ b/")
        elif match := re.match(r"@@ -\S+ \+(\d+)", line):
            number = int(match[1])
        elif line.startswith("+"):
            if not name.endswith(("kunit.c", "selftest.c", "iommufd_test.h")):
                found[name, number] = " ".join(line[1:].split())
            number += 1
    return found


def explanations():
    """(file, function, text) of lines that no test reaches, or (file, None, None) -> the reasons."""
    found = collections.defaultdict(list)
    for key, reason in reasons.listed(UNREACHED, r"(\S+)(?: (\w+): (.+))?"):
        found[key].append(reason)
    return found


def report(ours, counts):
    code = {key: counts[key] for key in ours if key in counts}
    missed = sorted(key for key, (_, count) in code.items() if not count)
    print(f"\n{len(ours)} lines added to drivers/, {len(code)} of them with code, {len(code) - len(missed)} of these executed")
    for name in sorted({name for name, _ in ours}):
        here = [key for key in code if key[0] == name]
        print(f"  {name}: {sum(1 for key in here if code[key][1])} of {len(here)}")
    explained = explanations()
    unexplained = 0
    for name in sorted({name for name, _ in ours if name.endswith(".c")} - {name for name, _ in counts}):
        print(f"\nnot in this kernel: {name}, {sum(1 for key in ours if key[0] == name)} lines")
        if not explained[name, None, None]:
            raise Failed(f"add it to TOUCHED in lab/kernel/kernels.py, or say in {UNREACHED} why this kernel cannot have it")
        print(f"      {explained[name, None, None].pop(0)}")
    if missed:
        print("\nnot executed:")
    for name, number in missed:
        key = name, code[name, number][0], ours[name, number]
        print(f"  {name}:{number} {key[1]}: {key[2]}")
        if explained[key]:
            print(f"      {explained[key].pop(0)}")
        else:
            print(f"      NOT EXPLAINED: test it, or say in {UNREACHED} why no test can reach it")
            unexplained += 1
    stale = [key for key, left in explained.items() for reason in left if not reason.startswith("by chance")]
    for name, function, text in stale:
        print(f"\nSTALE in {UNREACHED}: {f'{name} {function}: {text}' if text else name}\n      it is executed now, or gone: remove it there")
    percent = 100 * (len(code) - len(missed)) / len(code) if code else 0
    print(f"\ncoverage {percent:.1f} %: {len(missed)} lines missed, {unexplained} of them without a reason, {len(stale)} reasons out of date")
    return not (unexplained or stale)


def main():
    ours = added()
    counts = {}
    for data in run_tests():
        for key, (function, count) in counts_of(data).items():
            counts[key] = function, count + counts.get(key, ("", 0))[1]
    sys.exit(0 if report(ours, counts) else 1)


if __name__ == "__main__":
    try:
        main()
    except (Failed, reasons.Wrong, OSError) as error:
        sys.exit(f"coverage: {error}")
