#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""make tree and make export, on a base of three files and on one that is onto it, and that the real patches are what export writes.

Prints TAP.  Runs in the tool root.
"""

import contextlib
import functools
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile

from lab.tree import tree
from tests import tap

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

TESTS = []
KERNELS = ("linux", "linux-iommufd", "linux-6.12")
BASES = (*KERNELS, "qemu")


def test(function):
    TESTS.append(function)
    return function


def read(path):
    with open(path, "rb") as file:
        return file.read()


def patches(base="tiny"):
    return {name: read(f"patches/{base}/{name}") for name in sorted(os.listdir(f"patches/{base}"))}


class Tiny(tree.Tree):
    """A base that is not in a package."""

    version = "tiny 1.0"

    def __init__(self):
        super().__init__("tiny")

    def source(self):
        return os.path.abspath("tiny.tar.xz"), self.version


class Onto(tree.Tree):
    """A base that is onto it."""

    def __init__(self, tiny):
        super().__init__("onto")
        self.parent = tiny


def edit(path, old, new):
    text = read(path).decode()
    assert old in text, f"{path} lacks {old!r}"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace(old, new))


def commit(subject, *more, base="tiny"):
    tree.git(f"build/tree/{base}", "add", "-A")
    tree.git(f"build/tree/{base}", "commit", "-q", "-m", subject, *more)


def start():
    """A base, and a series of two patches that export wrote."""
    os.makedirs("tiny/sub")
    for name in ("Makefile", "main.c", "sub/sub.c"):
        with open(f"tiny/{name}", "w", encoding="utf-8") as file:
            file.writelines(f"line {number} of {name}\n" for number in range(40))
    subprocess.run(["tar", "-cJf", "tiny.tar.xz", "tiny"], check=True)
    os.makedirs("patches/tiny")
    os.makedirs("build/tree")
    os.makedirs("bases")
    for name, text in (("tiny", "package = tiny\n"), ("onto", "# a comment\nonto = tiny\nto = ONTO\n")):
        with open(f"bases/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    with open("patches/tiny/0000-cover-letter.patch", "w", encoding="utf-8") as file:
        file.write("the cover letter\n")
    tiny = Tiny()
    tiny.make()
    edit("build/tree/tiny/main.c", "line 3 of", "first change of")
    commit("main: change the third line\n\nBecause.")
    edit("build/tree/tiny/main.c", "line 30 of", "second change – not ASCII – of")
    edit("build/tree/tiny/sub/sub.c", "line 1 of", "second change of")
    commit("sub: change – ünd not in ASCII\n\nBecause it is so.")
    tiny.export()
    return tiny


def add_a_patch(tiny):
    edit("build/tree/tiny/Makefile", "line 7 of", "changed")
    commit("Makefile: change")
    tiny.export()


def start_onto(tiny):
    """A series of one patch on that of two."""
    onto = Onto(tiny)
    onto.make()
    edit("build/tree/onto/main.c", "line 20 of", "change onto the others of")
    commit("main: change what is between", base="onto")
    onto.export()
    return onto


def said(action):
    """What it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        action()
    return output.getvalue()


refused = functools.partial(tap.refused, tree.TreeError)


@test
def an_unchanged_tree_exports_identical_patches(tiny):
    before = patches()
    assert list(before) == ["0000-cover-letter.patch", "0001-main-change-the-third-line.patch", "0002-sub-change-nd-not-in-ASCII.patch"], list(before)
    tiny.export()
    assert patches() == before
    shutil.rmtree("build/tree/tiny")
    tiny.make()
    head = tiny.head()
    tiny.export()
    assert patches() == before
    # And the commits themselves are the same everywhere.
    shutil.rmtree("build/tree/tiny")
    tiny.make()
    assert tiny.head() == head


@test
def the_users_git_configuration_is_not_in_the_patches(tiny):
    before = patches()
    for name, value in {
        "diff.noprefix": "true", "diff.context": "7", "diff.algorithm": "histogram", "format.signature": "me", "diff.interHunkContext": "9",
        "format.signOff": "true", "format.attach": "true", "format.numbered": "true", "core.abbrev": "40", "format.useAutoBase": "true",
        "format.from": "Someone <someone@example.com>", "format.headers": "X-Header: x\n", "diff.renames": "copies", "format.pretty": "raw",
        "format.notes": "true", "format.subjectPrefix": "RFC", "format.coverLetter": "true", "diff.statGraphWidth": "5", "format.thread": "true",
        "color.ui": "always", "diff.relative": "true", "format.cc": "x@example.com", "diff.mnemonicPrefix": "true", "i18n.logOutputEncoding": "latin1",
        "diff.dirstat": "0", "diff.statNameWidth": "8", "format.encodeEmailHeaders": "false", "diff.suppressBlankEmpty": "true",
        "format.mboxrd": "true", "diff.wsErrorHighlight": "all",
    }.items():
        tree.git("build/tree/tiny", "config", name, value)
    tiny.export()
    now = patches()
    changed = [name for name in now if now[name] != before.get(name)]
    assert now == before, f"{changed} differ:\n{now[changed[0]].decode() if changed else list(now)}"


@test
def no_person_is_invented(tiny):
    for name, text in patches().items():
        if name.startswith("0000"):
            continue
        people = [line for line in text.decode().splitlines() if line.startswith(("From: ", "Signed-off-by"))]
        assert people == ["From: Author of the series <author@series.invalid>"], people


@test
def an_author_who_wants_to_be_named_is(tiny):
    edit("build/tree/tiny/Makefile", "line 7 of", "changed")
    commit("Makefile: change", "--author=Jane Doe <jane@example.com>")
    tiny.export()
    assert b"From: Jane Doe <jane@example.com>" in patches()["0003-Makefile-change.patch"]


@test
def export_follows_dropped_and_reworded_commits_and_keeps_the_cover_letter(tiny):
    tree.git("build/tree/tiny", "reset", "-q", "--hard", "HEAD~1")
    tree.git("build/tree/tiny", "commit", "-q", "--amend", "-m", "main: other words")
    tiny.export()
    assert list(patches()) == ["0000-cover-letter.patch", "0001-main-other-words.patch"], list(patches())
    assert not os.path.exists("patches/tiny.tmp")


@test
def export_that_fails_changes_nothing(tiny):
    before = patches()
    commit("empty", "--allow-empty")
    tree.git("build/tree/tiny", "checkout", "-q", "-b", "side", "HEAD~1")
    commit("side", "--allow-empty")
    tree.git("build/tree/tiny", "merge", "-q", "--no-ff", "-m", "merge", "series")
    refused(tiny.export, "merge")
    assert patches() == before


@test
def half_a_rebase_is_not_exported(tiny):
    before = patches()
    todo = "sed -i '1s/pick/edit/'"
    tree.git("build/tree/tiny", "rebase", "-q", "-i", "base", check=False, GIT_SEQUENCE_EDITOR=todo)
    refused(tiny.export, "rebase")
    assert patches() == before
    tree.git("build/tree/tiny", "rebase", "--abort")
    tiny.export()


@test
def new_patches_are_taken(tiny):
    add_a_patch(tiny)
    head = tiny.head()
    third = read("patches/tiny/0003-Makefile-change.patch")
    os.unlink("patches/tiny/0003-Makefile-change.patch")
    tiny.make()
    assert b"changed" not in read("build/tree/tiny/Makefile")
    with open("patches/tiny/0003-Makefile-change.patch", "wb") as file:
        file.write(third)
    tiny.make()
    assert b"changed" in read("build/tree/tiny/Makefile")
    assert tiny.head() == head or tree.git("build/tree/tiny", "diff", head) == ""


@test
def a_patch_that_does_not_apply_is_named_and_can_be_resolved(tiny):
    edit("patches/tiny/0001-main-change-the-third-line.patch", "line 4 of", "line four of")
    edit("patches/tiny/0001-main-change-the-third-line.patch", "-line 3 of", "-line three of")
    refused(tiny.make, "0001-main-change-the-third-line.patch", "git am")
    # It is not taken for a whole tree, neither by another make nor by an export.
    refused(tiny.make, "in the middle of a git am")
    refused(tiny.export, "in the middle")
    tree.git("build/tree/tiny", "am", "--abort")
    edit("patches/tiny/0001-main-change-the-third-line.patch", "line four of", "line 4 of")
    edit("patches/tiny/0001-main-change-the-third-line.patch", "-line three of", "-line 3 of")
    tree.git("build/tree/tiny", "reset", "-q", "--hard", "base")
    tiny.make()
    assert b"second change" in read("build/tree/tiny/main.c")


@test
def git_goes_on_with_the_patches_after_a_resolved_one(tiny):
    edit("patches/tiny/0001-main-change-the-third-line.patch", "-line 3 of", "-line three of")
    refused(tiny.make, "0001-main-change-the-third-line.patch")
    edit("build/tree/tiny/main.c", "line 3 of", "first change, resolved, of")
    tree.git("build/tree/tiny", "add", "-A")
    tree.git("build/tree/tiny", "am", "--continue")
    tiny.export()
    assert b"first change, resolved" in read("patches/tiny/0001-main-change-the-third-line.patch")
    assert b"second change" in read("build/tree/tiny/main.c") and tiny.patch_files()[1:]


@test
def a_file_that_is_no_patch_is_named(tiny):
    with open("patches/tiny/0003-nonsense.patch", "w", encoding="utf-8") as file:
        file.write("nonsense\n")
    refused(tiny.make, "0003-nonsense.patch")
    os.unlink("patches/tiny/0003-nonsense.patch")
    tiny.make()
    assert not tiny.work(tiny.taken())


@test
def edits_are_not_thrown_away(tiny):
    edit("build/tree/tiny/Makefile", "line 7 of", "precious")
    tiny.make()  # nothing to take from patches/: fine
    edit("patches/tiny/0002-sub-change-nd-not-in-ASCII.patch", "Because it is so", "For another reason")
    refused(tiny.make, "1 changed file", "make export")
    assert b"precious" in read("build/tree/tiny/Makefile")
    commit("precious")
    refused(tiny.make, "commits of its own")
    assert b"precious" in read("build/tree/tiny/Makefile")
    tiny.version = "tiny 2.0"
    refused(tiny.make, "tiny 2.0", "out of the way")
    assert b"precious" in read("build/tree/tiny/Makefile")


@test
def new_files_are_not_thrown_away(tiny):
    with open("build/tree/tiny/new.c", "w", encoding="utf-8") as file:
        file.write("precious\n")
    os.unlink("patches/tiny/0002-sub-change-nd-not-in-ASCII.patch")
    refused(tiny.make, "1 changed file")
    assert read("build/tree/tiny/new.c") == b"precious\n"


@test
def a_new_base_replaces_a_tree_without_work(tiny):
    tiny.version = "tiny 2.0"
    tiny.make()
    assert tree.git("build/tree/tiny", "log", "--format=%s", "base").strip() == "tiny 2.0"
    assert b"second change" in read("build/tree/tiny/main.c")


def interrupt(made, *needed):
    """Killed after ever more steps, each of which is a git command."""
    head = made.head()
    survived = 0
    for step in range(1, 60):
        for removed in (made, *needed):
            tree.remove(removed.path)
        child = os.fork()
        if child == 0:
            real, left = tree.git, [step]

            def failing(*args, **keywords):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **keywords)

            tree.git = failing
            sys.stdout = io.StringIO()
            made.make()
            os._exit(0)
        survived = os.waitpid(child, 0)[1] == 0
        made.make()
        assert made.head() == head, f"after step {step}"
        assert not made.work(made.taken())
        if survived:
            break
    assert survived, "more steps than this test knows"


@test
def every_interruption_can_be_followed_by_another_make(tiny):
    interrupt(tiny)


@test
def every_interruption_of_a_base_onto_another_can_be_followed_by_another_make(tiny):
    onto = start_onto(tiny)
    tree.remove(onto.path)
    onto.make()  # with the dates that patches have
    interrupt(onto, tiny)


@test
def a_base_onto_another_starts_with_its_files_and_patches(tiny):
    onto = Onto(tiny)
    onto.make()  # it has no patches, and no folder for them
    subjects = tree.git(onto.path, "log", "--format=%s", "base").splitlines()
    assert subjects == ["sub: change – ünd not in ASCII", "main: change the third line", "tiny 1.0"], subjects
    assert onto.head() == tree.git(onto.path, "rev-parse", "base").strip()
    assert tree.git(onto.path, "diff", "mainline") == tree.git(tiny.path, "diff", "base")
    assert tree.git(onto.path, "remote") == ""
    assert tree.base_field("onto", "package") == "tiny" and tree.base_field("onto", "to") == "ONTO"
    # The other tree can go away, and come again.
    tree.remove(tiny.path)
    tree.git(onto.path, "fsck", "--full", "--strict")
    onto.make()
    assert not os.path.exists(tiny.path)
    tree.remove(onto.path)
    onto.make()
    assert os.path.exists(tiny.path)


@test
def a_base_onto_another_needs_the_files_of_that_alone(tiny):
    """Whose patches are applied when somebody wants them."""
    before = tiny.head()
    tree.remove(tiny.path)
    onto = Onto(tiny)
    onto.make()
    assert tree.git(onto.path, "diff", "mainline", "base") and not tree.git(tiny.path, "log", "--format=%s", "base..HEAD")
    tiny.make()
    assert tiny.head() == before
    onto.make()
    assert onto.work(onto.taken()) == ""


@test
def a_base_onto_another_exports_its_own_patches(tiny):
    before = patches()
    onto = start_onto(tiny)
    exported = patches("onto")
    assert list(exported) == ["0001-main-change-what-is-between.patch"], list(exported)
    tree.remove(onto.path)
    onto.make()
    onto.export()
    assert patches("onto") == exported and patches() == before


@test
def a_base_onto_another_takes_its_new_patches(tiny):
    onto = start_onto(tiny)
    add_a_patch(tiny)
    onto.make()
    assert b"changed" in read("build/tree/onto/Makefile") and b"change onto the others" in read("build/tree/onto/main.c")
    assert tree.git(onto.path, "log", "--format=%s", "-2").splitlines() == ["main: change what is between", "Makefile: change"]
    assert tree.git(onto.path, "rev-list", "--count", "base..HEAD").strip() == "1"
    assert not onto.work(onto.taken())
    # And leaves alone what is new in neither.
    head, base = onto.head(), tree.git(onto.path, "rev-parse", "base")
    edit("patches/onto/0001-main-change-what-is-between.patch", "change onto the others", "another change")
    onto.make()
    assert onto.head() != head and tree.git(onto.path, "rev-parse", "base") == base


@test
def a_base_onto_another_is_told_of_work_that_it_lacks(tiny):
    onto = start_onto(tiny)
    assert "until" not in said(onto.make)
    edit("build/tree/tiny/Makefile", "line 7 of", "changed")
    assert "build/tree/tiny has 1 changed file, not in build/tree/onto until 'make export BASE=tiny'" in said(onto.make)
    commit("Makefile: change")
    assert "build/tree/tiny has commits of its own" in said(onto.make)
    tree.remove(onto.path)
    assert "build/tree/tiny has commits of its own" in said(onto.make)
    assert b"changed" not in read("build/tree/onto/Makefile")


@test
def work_on_a_base_onto_another_is_not_thrown_away(tiny):
    onto = start_onto(tiny)
    add_a_patch(tiny)
    edit("build/tree/onto/main.c", "line 10 of", "precious")
    refused(onto.make, "patches/tiny has changed", "1 changed file", "make export")
    commit("main: precious", base="onto")
    refused(onto.make, "patches/tiny has changed", "commits of its own")
    onto.export()
    assert list(patches("onto")) == ["0001-main-change-what-is-between.patch", "0002-main-precious.patch"]
    onto.make()
    assert b"precious" in read("build/tree/onto/main.c") and b"changed" in read("build/tree/onto/Makefile")
    edit("build/tree/onto/main.c", "line 12 of", "precious, too")
    tiny.version = "tiny 2.0"
    refused(onto.make, "tiny 2.0", "out of the way")
    tree.git(onto.path, "checkout", "-q", "main.c")
    onto.make()
    assert tree.git(onto.path, "log", "--format=%s", "mainline").strip() == "tiny 2.0"
    assert tree.git(tiny.path, "log", "--format=%s", "base").strip() == "tiny 2.0"


@test
def a_patch_of_the_other_base_that_does_not_apply_is_resolved_there(tiny):
    onto = start_onto(tiny)
    name = "patches/tiny/0002-sub-change-nd-not-in-ASCII.patch"
    edit(name, "-line 30 of", "-line thirty of")
    refused(onto.make, name, "'make tree BASE=tiny'")
    refused(onto.make, name)
    edit(name, "-line thirty of", "-line 30 of")
    with open("patches/tiny/0003-nonsense.patch", "w", encoding="utf-8") as file:
        file.write("nonsense\n")
    refused(onto.make, "0003-nonsense.patch", "'make tree BASE=tiny'")
    os.unlink("patches/tiny/0003-nonsense.patch")
    onto.make()
    assert not onto.work(onto.taken()) and b"change onto the others" in read("build/tree/onto/main.c")


@test
def a_patch_that_does_not_apply_onto_the_other_base_can_be_resolved(tiny):
    onto = start_onto(tiny)
    edit("build/tree/tiny/main.c", "line 20 of", "the same line of")
    commit("main: change the same line")
    tiny.export()
    refused(onto.make, "0001-main-change-what-is-between.patch", "tiny 1.0 with patches/tiny", "git am")
    refused(onto.make, "in the middle of a git am")
    edit("build/tree/onto/main.c", "".join(read("build/tree/onto/main.c").decode().partition("<<<<<<<")[1:2]), "resolved ")
    tree.git(onto.path, "add", "-A")
    tree.git(onto.path, "am", "--continue")
    onto.export()
    tree.remove(onto.path)
    onto.make()
    assert b"resolved" in read("build/tree/onto/main.c")


@test
def state_tells_edits_apart(tiny):
    states = [tiny.state()]
    edit("build/tree/tiny/Makefile", "line 7 of", "changed")
    states.append(tiny.state())
    with open("build/tree/tiny/new.c", "w", encoding="utf-8") as file:
        file.write("new\n")
    states.append(tiny.state())
    edit("build/tree/tiny/new.c", "new", "newer")
    states.append(tiny.state())
    commit("all of it")
    states.append(tiny.state())
    assert len(set(states)) == len(states)
    assert tiny.state() == states[-1]


def real_patches(real):
    """The commits of build/tree are those of patches, byte for byte."""
    if not os.path.isdir(real.path):
        return f"there is no {real.path}"
    if real.work(real.taken()):
        return f"{real.path} has {real.work(real.taken())}"
    with tempfile.TemporaryDirectory() as scratch:
        tree.git(real.path, "format-patch", "-q", *tree.FORMAT, "-o", scratch, "base..HEAD")
        expected = {os.path.basename(name): read(name) for name in real.patch_files()}
        got = {name: read(f"{scratch}/{name}") for name in os.listdir(scratch)}
        different = [name for name in sorted({*expected, *got}) if expected.get(name) != got.get(name)]
        assert not different, f"{different} are not as 'make export' writes them"
    return None


def main():
    print(f"TAP version 13\n1..{len(TESTS) + len(BASES)}")
    failed = 0
    for number, function in enumerate(TESTS, 1):
        with tap.folder():
            failed += tap.run(number, function.__name__, lambda: function(start()))
    for number, base in enumerate(BASES, len(TESTS) + 1):
        failed += tap.run(number, f"real_patches {base}", lambda: real_patches(tree.Tree(base)))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
