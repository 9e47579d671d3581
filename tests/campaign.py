# SPDX-License-Identifier: GPL-2.0-only
"""The long campaigns, one after the other, and a table of how they ended. Called by `make campaign` in the tool root.

Each step and all of them together are bounded: a step that is out of time is ended and has failed. A step shows one line;
what it says goes to a log, and the last line of that into the table.
"""

import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass

from lab.kernel.kernels import KERNELS

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

MINUTES = 60


@dataclass(frozen=True)
class Step:
    name: str
    minutes: int
    command: str  # of a shell
    unit: str = "lines"  # what the progress counts: lines of the output that match
    pattern: str = "."


SELFTESTS = sorted({kernel.selftests for kernel in KERNELS.values()})
# 6.12 has a list of its own: make lts.
BUILDS = " && ".join(
    [
        *(f"lab/build kernel {name}" for name in KERNELS if not name.startswith("lts")),
        *(f"lab/build selftests {name}" for name in SELFTESTS),
        "tests/module/build coverage mutants",
        "tests/model/build",
        "python3 lab/tree/tree.py make qemu",  # check/planted has its documentation built
    ]
)

# A kernel whose KCSAN watches nothing finds nothing.
RACES = """vfio_reserved_msi_race_test $VFIO_IGB_BDFS
status=$?
grep -q "^setup_watchpoints: [1-9]" /sys/kernel/debug/kcsan || { echo "KCSAN watched nothing"; cat /sys/kernel/debug/kcsan; exit 1; }
exit $status"""

# Kernels first, and not on the clock: those that have to be built from scratch must not take the time of what comes after.
STEPS = (
    Step("kernels", 55, BUILDS, "done", "(Image|, done$)"),
    Step("coverage", 15, "python3 tests/coverage.py"),
    Step("mutants", 20, "python3 tests/mutants.py", "boots", "^mutants: .*boots"),
    Step("races", 10, shlex.join(["lab/run", "--kernel", "kcsan", "--timeout", "600", "--", "sh", "-c", RACES]), "tests", "^(not )?ok "),
    Step("long tests", 35, "tests/run --long", "suites", r"^\S.* s  build/"),
)


def last_line(log):
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            return ([line.strip() for line in file if line.strip()] or [""])[-1]
    except OSError:
        return ""


def clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def main():
    start = warm = time.monotonic()
    rows = []
    for step in STEPS:
        log = f"build/logs/campaign-{step.name.replace(' ', '-')}.log"
        began = time.monotonic()
        left = int(60 * MINUTES - (began - warm))
        status = 124
        if left > 0:
            bounded = ["timeout", "--kill-after=30", str(min(60 * step.minutes, left)), "sh", "-c", step.command]
            status = subprocess.run(["lab/step", step.name, log, step.unit, step.pattern, *bounded], check=False).returncode
        result = {0: "passed", 124: "out of time"}.get(status, "FAILED")
        rows.append((step.name, result, time.monotonic() - began, last_line(log), log))
        if step.name == "kernels":
            if status:
                break
            warm = time.monotonic()
    print(f"\n{'campaign':12} {'result':12} {'time':>6}  what it said last")
    for name, result, seconds, said, log in rows:
        print(f"{name:12} {result:12} {clock(seconds):>6}  {said}\n{'':33}{log}")
    passed = sum(1 for row in rows if row[1] == "passed")
    print(f"\n{passed} of {len(STEPS)} passed in {clock(time.monotonic() - start)}")
    sys.exit(0 if passed == len(STEPS) else 1)


if __name__ == "__main__":
    main()
