"""What a kernel says when it found something wrong with itself."""

import re

# The first line of a report, not the stack trace below it: fault injection
# prints stack traces too, and those are what the test asked for.
COMPLAINTS = re.compile(
    rb"""
      \bWARNING:\s                            # WARN(), lockdep, suspicious RCU
    | \bBUG:\s                                # KASAN, KCSAN, sleeping in atomic, soft lockup, ...
    | \bkernel\ BUG\ at\b
    | \bInternal\ error:                      # an Oops on arm64
    | \bUnable\ to\ handle\ kernel\b
    | \bKernel\ panic\b
    | \bUBSAN:
    | \bUBSAN\ failure\b
    | \bkmemleak:\ (?:[1-9]\d*\ new\ suspected|(?:Trying|Found|Cannot|Kernel\ memory\ leak\ detector\ disabled))
    | ^unreferenced\ object\ 0x
    | \brefcount_t:
    | \blist_(?:add|del)\ corruption
    | \bODEBUG:
    | \bDMA-API:\ .*(?:device\ driver|exceeded|error)
    | \binconsistent\ lock\ state\b
    | \bpossible\ (?:circular|recursive)\ locking\b
    | \bpossible\ irq\ lock\ inversion\b
    | \bsuspicious\ RCU\ usage\b
    | \bINFO:\ task\ .*\ blocked\ for\ more\ than\b
    | \bself-detected\ stall\ on\ CPU\b
    | \bdetected\ (?:expedited\ )?stalls\ on\ CPUs
    | \bINFO:\ (?:trying\ to\ register\ non-static\ key|lockdep\ is\ turned\ off)
    | \bDEBUG_LOCKS_WARN_ON\b
    | \bMAX_LOCK_DEPTH\ too\ low\b | \bMAX_LOCKDEP_\w+\ too\ low\b
    | ^\s*(?:not\ ok|\[.*\]\s+not\ ok)\x00    # never: KUnit's verdicts are the caller's to read
    """,
    re.VERBOSE,
)
SHOWN = 8


def find(console):
    """The first lines of the first complaint on a console, or an empty list."""
    lines = [line.rstrip(b"\r") for line in console.split(b"\n")]
    for number, line in enumerate(lines):
        if COMPLAINTS.search(line):
            return [text.decode(errors="replace") for text in lines[number : number + SHOWN]]
    return []
