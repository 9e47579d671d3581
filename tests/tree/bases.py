#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""make bases, on versions of a base of three files: what is written down, and what is said when a new one needs work.

Prints TAP.  Runs in the tool root.
"""

import contextlib
import io
import os
import subprocess
import sys

from lab.tree import tree
from tests import tap
from tests.bases import bases
from tests.tree.trees import edit, start

FIRST = "0001-main-change-the-third-line.patch"


class Offered(bases.Offered):
    """Not from a package: versions from 2 on have another main.c."""

    def source(self):
        if self.version >= "2" and os.path.exists("tiny/main.c"):
            edit("tiny/main.c", "line 3 of", "another line 3 of")
            edit("tiny/main.c", "line 2 of", "another line 2 of")
            edit("tiny/main.c", "line 4 of", "another line 4 of")
            subprocess.run(["tar", "-cJf", "tiny2.tar.xz", "tiny"], check=True)
            os.rename("tiny", "tiny2")
        return os.path.abspath("tiny2.tar.xz" if self.version >= "2" else "tiny.tar.xz"), f"{self.package} {self.version}"


def result(good, *versions, builds=True):
    """(exit status, README's rows, what is said) when these are offered."""
    start()
    os.rename("patches/tiny", "patches/linux")
    os.makedirs("bases", exist_ok=True)
    tree.write("bases/linux", f"package = tiny\ngood = {good}\n")
    os.makedirs(bases.OFFERS)
    tree.write(f"{bases.OFFERS}/offered", "".join(f"tiny={version}\n" for version in versions))
    tree.write("README.md", f"before\n{bases.BEGIN}old\n{bases.END}after\n")
    bases.Offered = Offered
    bases.built = lambda offered: builds
    bases.passed = lambda offered: (True, "3 passed, 0 failed, 0 skipped")
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            bases.main()
        except SystemExit as exit_:
            status = exit_.code
    with open("README.md", encoding="utf-8") as file:
        text = file.read()
    assert text.startswith(f"before\n{bases.BEGIN}") and text.endswith(f"{bases.END}after\n"), text
    return status, [line for line in text.splitlines() if line.startswith("| tiny ")], said.getvalue()


def all_is_well():
    assert result("1.0", "1.0", "1.1") == (0, [f"| tiny {v} | yes | yes | 3 passed, 0 failed, 0 skipped |" for v in ("1.0", "1.1")], "")


def a_newer_one_needs_work():
    status, rows, said = result("1.0", "1.0", "2.0")
    assert status == 1 and rows[1] == f"| tiny 2.0 | {FIRST} does not apply | – | – |", (status, rows)
    for word in ("tiny 2.0", FIRST, "CONTRIBUTING.md", "If Debian has a newer base"):
        assert word in said, f"{word!r} is not in what is said:\n{said}"


def selftests_are_not_the_kernel():
    """Where a patch of theirs does not apply, the kernel is tried all the same."""
    moved = bases.Refused.is_about_selftests
    bases.Refused.is_about_selftests = lambda *_: True
    status, rows, said = result("1.0", "2.0")
    bases.Refused.is_about_selftests = moved
    assert status == 1 and rows[0] == f"| tiny 2.0 | all of the kernel's; {FIRST} does not apply | yes | 3 passed, 0 failed, 0 skipped |", (status, rows)
    assert FIRST in said, said


def what_is_about_selftests():
    """A patch for them, with none for the kernel after it."""
    for name, changes in {"theirs": "tools/testing/selftests/vfio/a.c", "kernel": "drivers/vfio/b.c"}.items():
        tree.write(name, f"diff --git a/{changes} b/{changes}\n")
    assert bases.Refused("theirs").is_about_selftests(["kernel", "theirs"])
    assert not bases.Refused("theirs").is_about_selftests(["theirs", "kernel"])
    assert not bases.Refused("kernel").is_about_selftests(["kernel", "theirs"])


def an_older_one_is_for_information():
    status, rows, said = result("3.0", "2.0")
    assert status == 0 and FIRST in rows[0] and not said, (status, rows, said)


def one_that_does_not_build():
    status, rows, said = result("1.0", "1.0", builds=False)
    assert status == 1 and rows[0].startswith("| tiny 1.0 | yes | no: see ") and "build/logs/" in said, (status, rows, said)


TESTS = (
    all_is_well,
    a_newer_one_needs_work,
    selftests_are_not_the_kernel,
    what_is_about_selftests,
    an_older_one_is_for_information,
    one_that_does_not_build,
)


def main():
    print(f"TAP version 13\n1..{len(TESTS)}")
    failed = 0
    for number, function in enumerate(TESTS, 1):
        with tap.folder():
            failed += tap.run(number, function.__name__, function)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
