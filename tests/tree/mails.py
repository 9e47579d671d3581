#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""make series: who is named and asked in the mails, on a base of three files; and that git and b4 take those of the real series.

Prints TAP.  Runs in the tool root.
"""

import contextlib
import email
import email.policy
import fnmatch
import io
import mailbox
import os
import re
import subprocess
import sys
import tempfile

from lab.series import series
from lab.tree import tree
from tests import tap
from tests.tree.trees import KERNELS, Onto, commit, edit, refused, start

SENDER = ("Test Sender", "sender@example.com")
SIGN_OFF = "Signed-off-by: {} <{}>".format(*SENDER)
TESTS, REAL_TESTS = [], []

# Stands in for the script of a base's tree. Maintainers of main and of sub, and a list.
GET_MAINTAINER = """
print "Main Tainer <main\\@example.com> (reviewer:ALL (v3),maintainer:MAIN)\\n";
print "\\"Sub (System)\\" <sub\\@example.com> (maintainer:SUB)\\n" if grep { m,b/sub/, } <STDIN>;
print "list\\@example.com (open list)\\n";
"""


def test(function):
    TESTS.append(function)
    return function


def real_test(function):
    REAL_TESTS.append(function)
    return function


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def prepare():
    """trees.py's base and its series of two, and what else it takes to mail it."""
    tiny = start()
    write("bases/tiny", "package = tiny\nto = MAIN\n")
    write("build/tree/tiny/scripts/get_maintainer.pl", GET_MAINTAINER)
    write("patches/tiny/changelog", "v15:\n - More.\n\nv14:\n - Change lines\n   of files.\n")
    write("patches/tiny/0000-cover-letter.patch", "From: x\nSubject: [PATCH] main: Change\n lines\n\nThe text.\n\nMore of it.\n")
    return tiny


def mails(mbox):
    """The mails of an mbox, parsed, the cover letter first."""
    return [email.message_from_bytes(message.as_bytes(), policy=email.policy.default) for message in mailbox.mbox(mbox)]


def made(source, version="14", sender=SENDER, posting=""):
    return mails(series.make(series.postings(source)[posting], version, sender))


def cut(text, path="Makefile", old="line 7 of"):
    """tiny, its two patches and a third, in postings."""
    edit(f"build/tree/tiny/{path}", old, "changed")
    commit("Makefile: change\n\nWhy.")
    tree.Tree("tiny").export()
    write("patches/tiny/postings", text)
    write("patches/tiny/letter", "Subject: [PATCH] main: Fix it\n\nAnother text.\n")


IN_TWO = "[fixes]\npatches = 2\nletter = letter\nchangelog = none\n[rest]\npatches = 1 3\nprefix = RFC PATCH\nneeds = fixes\nto = MAIN\n"


def body(mail):
    return mail.get_content()


def sign_offs(mail):
    return re.findall("^Signed-off-by: .*", body(mail).partition("\n---\n")[0], re.MULTILINE)


def everything_in(path):
    """Names, sizes and times of all files."""
    return sorted((entry.path, entry.stat().st_size, entry.stat().st_mtime_ns)
                  for folder, _, _ in os.walk(path) for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False))


@test
def the_cover_letter_is_complete(tiny):
    cover, *patches = made(tiny)
    assert cover["Subject"] == "[PATCH v14 0/2] main: Change lines", cover["Subject"]
    parts = [
        "The text.", "More of it.", "Changes in v14\n==============\n", " - Change lines\n   of files.", "Base: v1.0, from Debian's package tiny 1.0.",
        "Test Sender (2):", " main: change the third line\n", " 2 files changed, ",
    ]
    places = [body(cover).find(part) for part in parts]
    assert -1 not in places and places == sorted(places), body(cover)
    assert "More.\n" not in body(cover), "another version's changes"
    assert len(patches) == 2


@test
def the_version_is_in_every_subject(tiny):
    assert [mail["Subject"][:15] for mail in made(tiny, "15")] == [f"[PATCH v15 {n}/2]" for n in range(3)]


@test
def the_newest_version_is_made_when_none_is_named(tiny):
    assert made(tiny, "")[0]["Subject"].startswith("[PATCH v15 0/2] ")


@test
def a_version_without_a_changelog_is_refused(tiny):
    refused(lambda: made(tiny, "16"), "patches/tiny/changelog", "'v16:'")
    assert not os.path.exists("build/series")


@test
def every_patch_is_signed_off_once(tiny):
    edit("build/tree/tiny/Makefile", "line 7 of", "changed")
    commit(f"Makefile: change\n\nWhy.\n\nFixes: 123456789012 (\"main\")\n{SIGN_OFF}\nReported-by: R <r@example.com>")
    tiny.export()
    _, *patches = made(tiny)
    assert [sign_offs(mail) for mail in patches] == [[SIGN_OFF]] * 3
    assert f"\n\n{SIGN_OFF}\n---\n" in body(patches[0])


@test
def an_author_who_wants_to_be_named_is(tiny):
    edit("build/tree/tiny/Makefile", "line 7 of", "changed")
    commit("Makefile: change\n\nWhy.", "--author=An Author <author@example.com>")
    tiny.export()
    refused(lambda: made(tiny), "An Author", "has not signed it off")
    commit("Makefile: change\n\nWhy.\n\nSigned-off-by: An Author <author@example.com>", "--amend")
    tiny.export()
    mail = made(tiny)[-1]
    assert mail["From"] == "Test Sender <sender@example.com>"
    assert body(mail).startswith("From: An Author <author@example.com>\n"), body(mail)
    assert sign_offs(mail) == ["Signed-off-by: An Author <author@example.com>", SIGN_OFF], sign_offs(mail)


@test
def names_need_not_be_ascii(tiny):
    sender = ("Zoë (ü, é)", "zoe@example.com")
    mbox = series.make(series.postings(tiny)[""], "14", sender)
    for mail in mails(mbox):
        assert mail["From"].addresses[0].display_name == sender[0], mail["From"]
    tree.git("build/tree/tiny", "checkout", "-q", "-b", "again", "base")
    tree.git("build/tree/tiny", "am", "-q", "--empty=drop", os.path.abspath(mbox))
    who = tree.git("build/tree/tiny", "log", "-1", "--format=%an <%ae>%n%(trailers:key=Signed-off-by,valueonly)").split("\n")
    assert who[:2] == ["{} <{}>".format(*sender)] * 2, who


@test
def maintainers_are_asked_and_others_get_copies(tiny):
    cover, first, second = made(tiny)
    for mail in (cover, first, second):
        assert mail["To"] == "Main Tainer <main@example.com>", mail["To"]
    assert first["Cc"] == "list@example.com", first["Cc"]
    for mail in (cover, second):
        assert {address.addr_spec for address in mail["Cc"].addresses} == {"sub@example.com", "list@example.com"}, mail["Cc"]
    write("bases/tiny", "package = tiny\nto = NOBODY\n")
    refused(lambda: made(tiny), "bases/tiny")


@test
def the_tree_is_left_alone_and_what_is_not_exported_out(tiny):
    edit("build/tree/tiny/Makefile", "line 7 of", "not exported")
    commit("Makefile: not exported")
    edit("build/tree/tiny/Makefile", "line 8 of", "not committed")
    before = everything_in("build/tree/tiny")
    assert len(made(tiny)) == 3
    assert everything_in("build/tree/tiny") == before


@test
def the_folder_has_the_same_mails(tiny):
    mbox = series.make(series.postings(tiny)[""], "14", SENDER)
    folder = mbox.removesuffix(".mbox")
    text = ""
    for name in sorted(os.listdir(folder)):
        with open(f"{folder}/{name}", encoding="utf-8") as file:
            text += file.read()
    with open(mbox, encoding="utf-8") as file:
        assert file.read() == text


@test
def a_base_onto_another_says_with_what(tiny):
    onto = Onto(tiny)
    write("bases/onto", "onto = tiny\n")
    write("patches/onto/changelog", "v1:\n - All of it.\n")
    write("patches/onto/0000-cover-letter.patch", "Subject: [PATCH] onto: Change more\n\nThe text.\n")
    onto.make()
    write("build/tree/onto/scripts/get_maintainer.pl", GET_MAINTAINER)
    edit("build/tree/onto/Makefile", "line 7 of", "changed")
    commit("Makefile: change", base="onto")
    onto.export()
    cover, *patches = made(onto, "1")
    assert [mail["Subject"] for mail in patches] == ["[PATCH 1/1] Makefile: change"], "there is no v1 in a subject"
    assert "\nBase: v1.0, from Debian's package tiny 1.0, with \"main: Change lines\", v15.\n" in body(cover), body(cover)


@test
def a_posting_has_its_own_patches_prefix_and_letter(tiny):
    cut(IN_TWO)
    cover, *patches = made(tiny, "", posting="fixes")
    assert cover["Subject"] == "[PATCH 0/1] main: Fix it"
    assert [mail["Subject"].startswith("[PATCH 1/1] sub: change ") for mail in patches] == [True], patches[0]["Subject"]
    assert "Another text." in body(cover) and "Changes in" not in body(cover), "the first version has no changes"
    assert body(cover).rstrip().partition("\nBase: ")[2].startswith("v1.0, from Debian's package tiny 1.0.\n"), body(cover)
    cover, *patches = made(tiny, "", posting="rest")
    assert [mail["Subject"][:19] for mail in (cover, *patches)] == [f"[RFC PATCH v15 {n}/2]"[:19] for n in range(3)]
    assert '\nBase: v1.0, from Debian\'s package tiny 1.0, with "main: Fix it".\n' in body(cover), body(cover)


@test
def the_sender_is_told_what_to_find_out(tiny):
    cut(IN_TWO + "ask = whose idea it was\n    which commit it fixes\n")
    for posting, wanted in (("fixes", []), ("rest", ["whose idea it was", "which commit it fixes"])):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            made(tiny, "", posting=posting)
        assert re.findall("before it is sent: (.*)", said.getvalue()) == wanted, said.getvalue()


@test
def postings_in_order_make_the_same_tree(tiny):
    cut(IN_TWO)
    wanted = tree.git(tiny.path, "rev-parse", "HEAD^{tree}")
    mboxes = [series.make(posting, "", SENDER) for posting in series.postings(tiny).values()]
    tree.git(tiny.path, "checkout", "-q", "-b", "again", "base")
    for mbox in mboxes:
        tree.git(tiny.path, "am", "-q", "--empty=drop", os.path.abspath(mbox))
    assert tree.git(tiny.path, "rev-parse", "HEAD^{tree}") == wanted


@test
def postings_that_cannot_be_are_refused(tiny):
    for text, said in (
        (IN_TWO.replace("1 3", "1"), "in none or in several: 3"),
        (IN_TWO.replace("1 3", "1-3"), "in none or in several: 2"),
        (IN_TWO.replace("1 3", "1 3 4"), "'4' is not a number"),
        (IN_TWO.replace("needs = fixes", "needs = others"), "[rest] needs 'others'"),
        (IN_TWO.replace("prefix", "odd"), "odd"),
        (IN_TWO.replace("[rest]", "rest"), "postings"),
        ("[all]\npatches = 1-2\n[last]\npatches =\n", "[last] has no patches"),
    ):
        cut(text)
        refused(lambda: series.postings(tiny), "patches/tiny/postings", said)
        tree.git(tiny.path, "reset", "-q", "--hard", "HEAD^")
        tiny.export()


@test
def an_order_that_does_not_apply_is_refused(tiny):
    """The third patch changes what the first one made."""
    cut(IN_TWO.replace("= 2\n", "= 3\n").replace("1 3", "1-2"), "main.c", "first change of")
    refused(lambda: made(tiny, "", posting="fixes"), '"Makefile: change" does not apply there', "patches/tiny/postings")
    assert not os.path.exists("build/series")


@test
def a_sender_who_is_nobody_is_refused(_):
    """With the program that `make series` starts, which hands in what the caller's git is configured with."""
    before = everything_in(f"{tap.TOP}/build/series")
    name_command, address_command = "git config --global user.name 'Your Name'", "git config --global user.email 'you@example.com'"
    for name, address, version, said in (
        ("", SENDER[1], "14", f": {name_command}"),
        (SENDER[0], "", "14", f": {address_command}"),
        (*tree.AUTHOR, "14", f": {name_command} && {address_command}"),
        (*SENDER, "next", ": make series VERSION=14"),
    ):
        configuration = {"GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": name,
                         "GIT_CONFIG_KEY_1": "user.email", "GIT_CONFIG_VALUE_1": address}
        result = subprocess.run(
            [f"{tap.TOP}/lab/series/make", "linux", "window", version], env={**os.environ, **configuration}, capture_output=True, text=True, check=False
        )
        assert result.returncode == 1 and result.stdout == "", result
        assert result.stderr.endswith(f"{said}\n") and result.stderr.count("\n") == 1, result.stderr
    assert everything_in(f"{tap.TOP}/build/series") == before


# The real postings, of each base: (posting, its mbox, a scratch folder)

BOXES = {}


def box(posting):
    """The mbox of one. To ask who is to hear of each patch takes half a second a patch: once is enough."""
    key = posting.source.base, posting.name
    if key not in BOXES:
        BOXES[key] = series.make(posting, "", SENDER)
    return BOXES[key]


# Who at least has to hear of one.
HEARS = {"irqchip": {"linux-kernel@vger.kernel.org"}, "libvfio": {"kvm@vger.kernel.org"}, "tests": {"kvm@vger.kernel.org"}}
KERNEL = {"kvm@vger.kernel.org", "iommu@lists.linux.dev"}
HEARS |= {("linux", "fixes"): {"kvm@vger.kernel.org"}, ("linux-iommufd", "fixes"): {"iommu@lists.linux.dev"}, "qemu": {"qemu-devel@nongnu.org"}}


def hears(posting):
    return HEARS.get((posting.source.base, posting.name)) or HEARS.get(posting.name) or HEARS.get(posting.source.base) or KERNEL


def apply(posting, mbox, where, *options):
    """git am on the base and what it needs, as strict as it is by itself: context must match.  Returns the resulting tree."""
    source, base = posting.source, posting.start
    tree.git(".", "clone", "-q", "--shared", "--no-checkout", source.path, where)
    # Of ninety thousand files, those that are changed.
    files = tree.git(where, "diff", "--name-only", base, source.taken()["head"]).split()
    tree.git(where, "sparse-checkout", "set", "--no-cone", *(f"/{name}" for name in files))
    tree.git(where, "checkout", "-q", "--detach", base)
    receiver = {"GIT_COMMITTER_NAME": "Test Receiver", "GIT_COMMITTER_EMAIL": "receiver@example.com"}
    for other in posting.below():
        tree.git(where, "am", "-q", "--empty=drop", os.path.abspath(box(other)), **receiver)
    tree.git(where, "am", "-q", *options, os.path.abspath(mbox), **receiver)
    return tree.git(where, "rev-parse", "HEAD^{tree}")


def is_last(posting):
    """With it, and what it needs, all is applied."""
    return len(posting.source.patch_files()) == sum(len(one.indices()) for one in (*posting.below(), posting))


def tree_of(source):
    return tree.git(source.path, "rev-parse", f"{source.taken()['head']}^{{tree}}")


@real_test
def git_am_takes_it_and_all_make_the_same_tree(posting, mbox, scratch):
    made_of_mails = apply(posting, mbox, f"{scratch}/am", "--empty=drop")
    assert (made_of_mails == tree_of(posting.source)) == is_last(posting)


@real_test
def b4_am_takes_it(posting, mbox, scratch):
    """As a receiver would, but for the network.  b4 wants to know who that is."""
    receiver = {"GIT_CONFIG_COUNT": "3", "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "Test Receiver",
                "GIT_CONFIG_KEY_1": "user.email", "GIT_CONFIG_VALUE_1": "receiver@example.com",
                "GIT_CONFIG_KEY_2": "safe.directory", "GIT_CONFIG_VALUE_2": "*"}
    os.mkdir(f"{scratch}/b4")
    tree.git(scratch, "init", "-q", "receiver")
    result = subprocess.run(
        ["b4", "--no-interactive", "--offline-mode", "am", "--use-local-mbox", os.path.abspath(mbox), "--outdir", f"{scratch}/b4"],
        cwd=f"{scratch}/receiver", env={**os.environ, **receiver, "HOME": scratch}, capture_output=True, text=True, check=False,
    )
    said = result.stdout + result.stderr
    print(said)
    assert result.returncode == 0
    assert f"Total patches: {len(posting.indices())}\n" in said
    assert not re.search(r"\b(ERROR|WARNING)\b", said)
    [ready] = [name for name in os.listdir(f"{scratch}/b4") if name.endswith(".mbx")]
    # b4 names no first version.
    version = posting.changes("")[0]
    assert ready.startswith(f"v{version}_") or version == "1" and not re.match(r"v\d", ready), ready
    assert (apply(posting, f"{scratch}/b4/{ready}", f"{scratch}/b4-am") == tree_of(posting.source)) == is_last(posting)


@real_test
def everyone_named_is_real(posting, mbox, _):
    cover, *patches = mails(mbox)
    with open(mbox, encoding="utf-8") as file:
        text = file.read()
    for word in (*tree.AUTHOR, ".invalid"):
        assert word not in text, f"{word!r} is in the mails"
    for mail in (cover, *patches):
        assert mail["From"] == "{} <{}>".format(*SENDER), mail["From"]
        assert mail["To"] == cover["To"], mail["To"]
        assert {a.addr_spec for a in mail["Cc"].addresses} <= {a.addr_spec for a in cover["Cc"].addresses}, mail["Cc"]
        assert sign_offs(mail).count(SIGN_OFF) == (mail is not cover), mail["Subject"]
    assert hears(posting) <= {a.addr_spec for field in ("To", "Cc") for a in cover[field].addresses}


@real_test
def it_is_one_thread_in_order(posting, mbox, _):
    cover, *patches = mails(mbox)
    count = len(posting.indices())
    width = len(str(count))
    version = posting.changes("")[0]
    prefix = posting.prefix + (f" v{version}" if version != "1" else "")
    expected = [f"[{prefix} {n:0{width}}/{count}" for n in range(count + 1)]
    assert [mail["Subject"].split("]")[0] for mail in (cover, *patches)] == expected
    assert "In-Reply-To" not in cover
    assert {mail["In-Reply-To"] for mail in patches} == {cover["Message-ID"]}
    assert len({mail["Message-ID"] for mail in (cover, *patches)}) == count + 1
    with open(mbox, encoding="utf-8") as file:
        assert not re.search(r"^Subject: .*\n\s", file.read(), re.MULTILINE), "a subject of two lines"


@real_test
def the_base_is_named_and_no_commit_is_made_up(posting, mbox, _):
    source = posting.source
    cover = body(mails(mbox)[0])
    match = re.search(r"^Base: v(\d+\.\d+)[\d.]*, from Debian's package (\S+) \1[\d.]*[-+][^\s,]+(\.|,\s)", cover, re.MULTILINE)
    wanted = tree.base_field(source.base, "source", "") or tree.base_field(source.base, "package")
    assert match and (match[3] == ".") == (not posting.needs) and fnmatch.fnmatchcase(match[2], wanted), cover
    assert "base-commit" not in cover, "nobody else has the commit that the tree starts with"


@real_test
def checkpatch_has_no_complaint_about_the_mails(posting, mbox, _):
    """About what `make series` adds. The rest is `make check`'s, which looks at patches that nobody signed off."""
    types = "MISSING_SIGN_OFF,NO_AUTHOR_SIGN_OFF,BAD_SIGN_OFF,FROM_SIGN_OFF_MISMATCH,EMAIL_SUBJECT,UTF8_BEFORE_PATCH,CORRUPTED_PATCH"
    source = posting.source
    # QEMU's script knows no types.
    options = [] if source.base == "qemu" else ["--show-types", "--types", types]
    folder = os.path.abspath(mbox.removesuffix(".mbox"))
    patches = [f"{folder}/{name}" for name in sorted(os.listdir(folder)) if not name.startswith("0000-")]
    result = subprocess.run(
        ["perl", "scripts/checkpatch.pl", "--no-summary", "--terse", *options, *patches],
        cwd=source.path, capture_output=True, text=True, check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def missing(source):
    if not os.path.isdir(source.path):
        return f"there is no {source.path}"
    return "" if source.patch_files() else f"{source.patches} is empty"


def main():
    real = [posting for base in (*KERNELS, "qemu") for posting in series.postings(tree.Tree(base)).values()]
    print(f"TAP version 13\n1..{len(TESTS) + len(real) * len(REAL_TESTS)}")
    failed = 0
    for number, function in enumerate(TESTS, 1):
        with tap.folder():
            failed += tap.run(number, function.__name__, lambda: function(prepare()))
    number = len(TESTS)
    with tempfile.TemporaryDirectory() as boxes:
        # Not where a sender's own mails may be.
        series.OUT = boxes
        for posting in real:
            source = posting.source
            with tempfile.TemporaryDirectory() as scratch:
                for function in REAL_TESTS:
                    number += 1
                    name = " ".join(filter(None, (function.__name__, source.base, posting.name)))
                    if without := missing(source):
                        print(f"ok {number} {name} # SKIP {without}")
                    else:
                        failed += tap.run(number, name, lambda: function(posting, box(posting), scratch))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
