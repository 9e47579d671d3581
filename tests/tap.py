# SPDX-License-Identifier: GPL-2.0-only
"""What the tests in Python have in common: TAP for functions that assert, and that something is refused in certain words."""

import contextlib
import io
import os
import tempfile
import time
import traceback

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def refused(error, action, *words):
    """The action raises the error, and what that says has these words."""
    try:
        action()
    except error as raised:
        missing = [word for word in words if word not in str(raised)]
        assert not missing, f"the message lacks {missing}: {raised}"
        return
    raise AssertionError("was not refused")


@contextlib.contextmanager
def folder():
    """The current one is new, and goes away."""
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        try:
            yield
        finally:
            os.chdir(TOP)


def run(number, name, function):
    """Report one test. Returns whether it failed; one that returns a text was skipped, and that is why."""
    output = io.StringIO()
    begin = time.monotonic()
    try:
        with contextlib.redirect_stdout(output):
            reason = function()
        verdict, why = "ok", f" # SKIP {reason}" if reason else ""
    except Exception:  # a test may fail in any way
        print("".join(f"# {line}\n" for line in (output.getvalue() + traceback.format_exc()).splitlines()), end="")
        verdict, why = "not ok", ""
    print(f"{verdict} {number} {name}{why}", flush=True)
    print(f"# {time.monotonic() - begin:.1f} s")
    return verdict == "not ok"
