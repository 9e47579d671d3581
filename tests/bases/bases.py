# SPDX-License-Identifier: GPL-2.0-only
"""The mainline series on each of the bases that tests/bases/run found: does it apply, build, and pass its selftests?

Writes what was found into README.md.  Fails when it does not apply to, build for or pass on a base that is as new as the one
that bases/linux has it developed on, or newer: older ones are for information.

Called by tests/bases/run in the tool root.
"""

import os
import shutil
import subprocess
import sys

from lab.tree import tree

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

OFFERS = "build/bases"
README = "README.md"
BEGIN, END = "<!-- make bases writes what follows -->\n", "<!-- up to here -->\n"


class Offered(tree.Tree):
    """The base of another version, with the same patches."""

    def __init__(self, offer):
        super().__init__("linux")
        self.package, self.version = offer.split("=")
        self.deb = f"{OFFERS}/{offer}.deb"
        self.path = f"{OFFERS}/{self.version}"
        self.log = f"build/logs/bases-{self.version}-kernel.log"

    def source(self):
        where = f"{self.path}.package"
        if not os.path.isdir(where):
            subprocess.run(["dpkg-deb", "-x", self.deb, f"{where}.tmp"], check=True)
            os.rename(f"{where}.tmp", where)
        return f"{where}/usr/src/{self.package}.tar.xz", f"{self.package} {self.version}"

    def refused(self, file, version, result):
        """Nobody goes on with it here: that is done in build/tree. The patches before it stay."""
        tree.git(self.path, "am", "--quit", check=False)
        tree.git(self.path, "reset", "-q", "--hard")
        raise Refused(file)


class Refused(Exception):
    def __init__(self, file):
        super().__init__(f"{os.path.basename(file)} does not apply")
        self.file = file

    def is_about_selftests(self, files):
        """Neither it nor a patch after it is the kernel's: those are all applied, and selftests for it there are in build/selftests."""
        changed = [name for patch in files[files.index(self.file) :] for name, _ in tree.diffs(patch)]
        return all(name.startswith("tools/testing/selftests/") for name in changed)


def newer(version, than):
    return subprocess.run(["dpkg", "--compare-versions", version, "ge", than], check=False).returncode == 0


def built(offered):
    """In the tool root, with its sources and output where those of any kernel are."""
    status = subprocess.run(
        ["lab/in-root", "--bind", offered.path, "/src", "--bind", f"{offered.path}.out", "/out", "python3", "lab/kernel/build.py", "kernel", "patched"],
        check=False,
    ).returncode
    # The next one is built as "patched", too.
    shutil.copyfile("build/logs/kernel-patched.log", offered.log)
    return status == 0


def passed(offered):
    """(whether, in words): our selftests, with its kernel in the place of the patched one."""
    place = f"{TOP}/build/kernel/patched"
    log = f"build/logs/bases-{offered.version}.log"
    image = f"{offered.path}.out/arch/arm64/boot/Image"
    before = os.stat(image).st_mtime_ns
    # Not tests/run, which would first build the patched kernel there.
    status = subprocess.run(
        ["lab/step", f"selftests on {offered.version}", log, "suites", r"^\S.* s  build/", "lab/in-root", "--bind", f"{offered.path}.out", place,
         "flock", "build/test.lock", "python3", "tests/run.py", "patched/vfio_reserved"],
        check=False,
    ).returncode
    if os.stat(image).st_mtime_ns != before:
        raise tree.TreeError(f"{image} is not what was built of {offered.path} any more: correct tests/bases/bases.py")
    with open(log, encoding="utf-8") as file:
        lines = file.read().splitlines()
    return status == 0, lines[-1] if lines and "passed" in lines[-1] else f"see {log}"


def try_on(offered):
    """(whether all is well, how far it got: applies, builds, passes, each in words)."""
    applies, all_do = "yes", True
    try:
        offered.make()
    except Refused as refused:
        if not refused.is_about_selftests(offered.patch_files()):
            return False, [str(refused), "", ""]
        applies, all_do = f"all of the kernel's; {refused}", False
    if not built(offered):
        return False, [applies, f"no: see {offered.log}", ""]
    well, words = passed(offered)
    return well and all_do, [applies, "yes", words]


def write_readme(rows):
    with open(README, encoding="utf-8") as file:
        before, _, rest = file.read().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise tree.TreeError(f"{README} has no lines '{BEGIN.strip()}' and '{END.strip()}' any more: put them back")
    lines = ["\n", "| base | applies | builds | our selftests |\n", "| --- | --- | --- | --- |\n"]
    lines += [f"| {' | '.join(cell or '–' for cell in row)} |\n" for row in rows]
    tree.write(README, before + BEGIN + "".join(lines) + "\n" + END + after)


def main():
    good = tree.base_field("linux", "good")
    with open(f"{OFFERS}/offered", encoding="utf-8") as file:
        offers = [Offered(line.strip()) for line in file]
    rows, failed = [], []
    for offered in offers:
        well, words = try_on(offered)
        rows.append([f"{offered.package} {offered.version}", *words])
        if not well and newer(offered.version, good):
            failed.append((offered, words))
    write_readme(rows)
    for row in rows:
        print(" ".join(f"{cell:44}" if number == 0 else f"{cell:12}" for number, cell in enumerate(row)))
    for offered, words in failed:
        print(
            f"bases: {offered.package} {offered.version} needs work: {', '.join(word for word in words if word)}.\n"
            "CONTRIBUTING.md says how to move the series there, 'If Debian has a newer base'.",
            file=sys.stderr,
        )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    try:
        main()
    except tree.TreeError as error:
        sys.exit(f"bases: {error}")
