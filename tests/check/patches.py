# SPDX-License-Identifier: GPL-2.0-only
"""The patches: what checkpatch.pl says of them, that they agree with each other, and that every single one builds."""

import difflib
import hashlib
import itertools
import json
import os
import re

from lab.tree import tree
from tests import mutants
from tests.check import context
from tests.check.context import TOP, Failed, call, make, no_new_warnings, touched_by_series
from tests.check.kernel import CONFIGS, DIRECTORIES, MAKE_SELFTESTS, MOCK, configure, remembered

EXCEPTIONS = "tests/check/checkpatch"


def not_asked(patch):
    with open(EXCEPTIONS, encoding="utf-8") as file:
        for line in file:
            if match := re.fullmatch(r"([A-Z_]+) (\S+): .+\n", line):
                if match[2] == "*" or match[2] in os.path.basename(patch):
                    yield match[1]
            elif line.strip() and not line.startswith("#"):
                raise Failed(f"{EXCEPTIONS}: correct this line, the first ones say how it is written: {line}")


def checkpatch(base, patches):
    """All of them at once: the script takes half a second to begin, and as long for most patches."""
    # Author and sign-off are put in by `make series`. Words are the check "spelling"'s.
    status, output = call(
        "perl", "scripts/checkpatch.pl", "--strict", "--no-signoff", "--no-summary", "--terse", "--show-types", *map(os.path.abspath, patches),
        cwd=base.path,
    )
    excused = {os.path.abspath(patch): set(not_asked(patch)) for patch in patches}
    told = []
    for line in output.splitlines():
        match = re.match(r"(/.+?):\d+: [A-Z]+:([A-Z0-9_]+): ", line)
        if not match or match[2] not in excused[match[1]]:
            told.append(line.removeprefix(f"{TOP}/"))
    if status and told:
        raise Failed("\n".join(told))


def checkpatch_qemu(patches):
    # QEMU's has words of its own. A warning counts, but for that about headers which are not in a release of Linux.
    told = []
    for patch in patches:
        strict = [] if "-linux-headers-" in patch else ["--strict"]
        path = os.path.abspath(patch)
        status, output = call("perl", "scripts/checkpatch.pl", *strict, "--no-signoff", "--no-summary", "--terse", path, cwd=context.QEMU.path)
        # New files are MAINTAINERS' by their folder, which it does not look up.
        if status:
            told += [line.removeprefix(f"{TOP}/") for line in output.splitlines() if "WARNING: added, moved or deleted file(s):" not in line]
    if told:
        raise Failed("\n".join(told))


def maintainers():
    """Every new file has someone to send its patches to."""
    alone = []
    for name in touched_by_series("A"):
        people = call("perl", "scripts/get_maintainer.pl", "--nogit", "--nogit-fallback", "-f", name, cwd=context.BOTH.path)[1]
        if not re.search(r"\((maintainer|supporter|reviewer):(?!THE REST)", people):
            alone.append(name)
    if alone:
        raise Failed("MAINTAINERS names nobody for:\n" + "\n".join(alone))


def changed_lines(text):
    return [line for line in text.splitlines() if re.match(r"[+-](?!(\+\+|--) )", line)]


def told_to_users(patch):
    """What a patch does to include/uapi and Documentation, line by line."""
    texts = [text for name, text in tree.diffs(patch) if name.startswith(("include/uapi/", "Documentation/"))]
    return [line for text in texts for line in changed_lines(text)]


def same_interface():
    """The backport is the same to user space, to the letter, patch by patch."""
    for mainline, backport in itertools.zip_longest(context.LINUX.patch_files(), context.LTS.patch_files()):
        if (told_to_users(mainline) if mainline else []) != (told_to_users(backport) if backport else []):
            raise Failed(f"{backport} does not do to include/uapi and Documentation what {mainline} does")


def same_header():
    """QEMU's copies of the uapi headers get what an update from the kernel's would bring, to the letter."""
    for header in ("vfio.h", "iommufd.h"):
        headers = ((context.BOTH, f"include/uapi/linux/{header}"), (context.QEMU, f"linux-headers/linux/{header}"))
        lines = [changed_lines(tree.git(series.path, "diff", series.unpatched, "--", name)) for series, name in headers]
        differences = list(difflib.unified_diff(*lines, *(f"{series.patches}: {name}" for series, name in headers), n=0, lineterm=""))
        if differences or not lines[0]:
            raise Failed("\n".join(differences) or f"the series does not change {header}")


def mutants_apply():
    """The mistakes that the tests have to notice can still be made, and each of them is in the table."""
    status, output = call("git", "apply", "--check", f"{TOP}/{mutants.PATCH}", cwd=context.BOTH.path)
    if status:
        raise Failed(f"{output}{mutants.PATCH}: its first lines say what to do")
    if words := mutants.disagreement():
        raise Failed(words)


def build_what_changed(source, changed, known, more):
    """A checkout of one commit, which changed these files; known: what the base is warned about; more: fragments for arm64."""
    if any(name.startswith(("drivers/", "include/")) for name in changed):
        for arch in CONFIGS:
            where = f"{source}.{arch}"
            configure(source, where, arch, more if arch == "arm64" else ())
            # An image, so that nothing is missing; once is enough for that. With the flags of the lab's kernels, so that
            # ccache knows most of it: warnings are looked for, and not made errors.
            said = make(source, where, *(("Image",) if arch == "arm64" else DIRECTORIES), arch=arch)
            no_new_warnings(known.setdefault(arch, said), said)
    for directory, words in MAKE_SELFTESTS.items():
        if any(name.startswith(directory) for name in changed):
            where = f"{source}.selftests"
            make(source, where, "headers_install")
            make(source, where, *words)


def every_patch_builds(base):
    """In a checkout of its own, so that nobody's tree is disturbed. What was built once, with the same tools, is not built again."""
    source = f"{context.OUT}/each.{base.base}"
    if not os.path.isdir(source):
        tree.remove(f"{source}.tmp")
        tree.git(TOP, "clone", "-q", "--shared", "--no-checkout", base.path, f"{source}.tmp")
        os.rename(f"{source}.tmp", source)
    tree.git(source, "fetch", "-q", "origin")
    tools = [call("dpkg-query", "-W")[1], str(CONFIGS)]
    more = (MOCK,) if base.parent else ()  # what it changes is iommufd
    for fragment in sorted({fragment for fragments in (*CONFIGS.values(), more) for fragment in fragments}):
        with open(fragment, encoding="utf-8") as file:
            tools.append(file.read())
    commits = tree.git(base.path, "rev-list", "--reverse", "--boundary", "base..HEAD").replace("-", "").split()
    trees = tree.git(base.path, "rev-parse", *(f"{commit}^{{tree}}" for commit in commits)).split()
    keys = [hashlib.sha256("\0".join([trees[0], each, *tools]).encode()).hexdigest() for each in trees]
    built = remembered(f"{source}.json")
    if set(keys) <= set(built):
        return
    known = {}
    for number, (commit, key) in enumerate(zip(commits, keys)):
        if number and key in built:
            continue
        tree.git(source, "checkout", "-q", "-f", "--detach", commit)
        # Of the base all that a patch changes: what else there is need not build.
        span = (commits[number - 1], commit) if number else (commit, commits[-1])
        changed = tree.git(source, "diff", "--name-only", *span).split()
        try:
            build_what_changed(source, changed, known, more)
        except Failed as failed:
            raise Failed(f"{tree.git(source, 'log', '-1', '--format=%s', commit)}{failed}") from failed
        built[key] = True
        tree.write(f"{source}.json", json.dumps(built))
