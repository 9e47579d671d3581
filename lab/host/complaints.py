# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel says when it found something wrong with itself."""

import re

# First lines of reports.  A stack trace alone is no sign: fault injection
# prints those because a test asked for it, and so do failed allocations.
# Each has a line in tests/lab/complaints.
REPORTS = (
    r"-+\[ cut here \]-+",  # WARN and BUG; the message comes next
    r"WARNING: ",  # lockdep, RCU, locks held on the way to user space
    r"(?:\[ )?BUG: ",  # KASAN, KCSAN, atomic contexts, soft lockups
    r"BUG \S+ \(",  # slab corruption
    r"kernel BUG at ",
    r"Unable to handle kernel ",
    r"Internal error: ",
    r"Kernel panic",
    r"UBSAN: ",
    r"refcount_t: ",
    r"list_(?:add|del) corruption",
    r"unreferenced object 0x",  # kmemleak, read by init
    r"Kernel memory leak detector disabled",  # from here on nobody looks
    r"INFO: task .+ blocked.* for more than ",
    r"INFO: .+ detected (?:expedited )?stall",
    r"INFO: .+ self-detected stall",
    r"INFO: trying to register non-static key",
    r"CPU\d+: Watchdog detected hard LOCKUP",
    r"\s*not ok \d",  # KUnit
)
# At the start of a line or after the time, perhaps with a prefix as in "rcu: INFO: ".
FIRST_LINE = re.compile(rf"^(?:\[ *\d+\.\d+\] )?(?:[\w-]+: )?(?:{'|'.join(REPORTS)})")
SHOWN = 8


def find(console):
    """The first lines of the first complaint on a console, or an empty list."""
    lines = console.replace("\r", "").split("\n")
    for number, line in enumerate(lines):
        if FIRST_LINE.search(line):
            return lines[number : number + SHOWN]
    return []
