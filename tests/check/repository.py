# SPDX-License-Identifier: GPL-2.0-only
"""This repository's own files."""

import os
import re
import shutil

from lab.tree import tree
from tests.check import context
from tests.check.context import TOP, Failed, call, interpreted_by, touched_by_series


def shellcheck():
    sourced = [name for name in context.tracked() if name.endswith(".sh")]
    status, output = call("shellcheck", "-x", *interpreted_by("/bin/bash", "/bin/sh"), *sourced)
    if status:
        raise Failed(output)


def python():
    """With ruff.toml; with pyflakes, which knows less, where setup found no ruff."""
    names = sorted({name for name in context.tracked() if name.endswith(".py")} | set(interpreted_by("python3")))
    if shutil.which("ruff"):
        status, output = call("ruff", "check", "--no-cache", "--output-format=concise", f"--config={TOP}/ruff.toml", *names)
    else:
        status, output = call("pyflakes3", *names)
    if status:
        raise Failed(output)


def words_of(patch):
    """Its message and what it adds, each line in its place."""
    with open(patch, encoding="utf-8") as file:
        message, diff, changes = file.read().partition("\ndiff ")
    return message + diff + "\n".join(line if line.startswith("+") else "" for line in changes.split("\n"))


def spelling():
    # checkpatch.pl --codespell asks for the same words in patches, and takes minutes: it has one expression of them all.
    where = f"{context.OUT}/spelling"
    tree.remove(where)
    names = []
    for name in context.tracked():
        if name.endswith(".patch"):
            os.makedirs(os.path.dirname(f"{where}/{name}"), exist_ok=True)
            tree.write(f"{where}/{name}", words_of(name))
            name = f"{where}/{name}"
        names.append(name)
    status, output = call("codespell", "-L", "fro,filp", *names)
    if status:
        raise Failed(output.replace(f"{where}/", ""))


def no_kernel_source():
    """Only diffs may hold kernel code: no file in the repository is one of the kernel, under whatever name."""
    kernels = {line.split()[2] for line in tree.git(context.LINUX.path, "ls-tree", "-r", "base").splitlines()}
    names = [name for name in context.tracked() if os.path.getsize(name)]
    for name, blob in zip(names, tree.git(".", "hash-object", "--", *names).split()):
        if blob in kernels:
            raise Failed(f"{name} is the kernel's")


def promises_have_tests():
    """The tests that README names for each promise exist, and so do the patches, those of linux-iommufd after an i."""
    with open("README.md", encoding="utf-8") as file:
        table = file.read().split("## What is promised", 1)[1].split("\n## ", 1)[0]
    existing = {}  # what README calls a program -> its tests
    for name in [f"{context.BOTH.path}/{name}" for name in touched_by_series()] + context.tracked():
        if name.endswith(("_test.c", "kunit.c")) or "/selftests/iommu/" in name:
            program = os.path.basename(name).removeprefix("vfio_reserved_msi_").removesuffix("_test.c").removesuffix(".c")
            with open(name, encoding="utf-8") as file:
                existing["KUnit" if name.endswith("kunit.c") else program] = re.findall(r"(?:TEST_F(?:_TIMEOUT)?\(\w+, |KUNIT_CASE\()(\w+)", file.read())
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| ") and not line.startswith("| ---")][1:]
    numbers = {"": len(context.LINUX.patch_files()), "i": len(context.BOTH.patch_files())}
    wrong = []
    for promise, patches, tests in rows:
        if not tests.strip():
            wrong.append(f"no test: {promise.strip()}")
        for series, patch in re.findall(r"(i?)(\d+)", patches):
            if not 1 <= int(patch) <= numbers[series]:
                wrong.append(f"no patch {series}{patch}: {promise.strip()}")
        program = "iova"
        for named, name in re.findall(r"(\*\w+\*|KUnit)|`([a-z]\w*\*?)`", tests):
            program = named.strip("*") or program
            if name and not any(re.fullmatch(name.replace("*", ".*"), test) for test in existing.get(program, ())):
                wrong.append(f"{program} has no test {name}: {promise.strip()}")
    if wrong or not rows:
        raise Failed("\n".join(wrong) or "README has no table of promises")


def documented_code():
    """What docs/vmm.md shows is in docs/examples, which the tests compile and run, line by line."""
    examples = ""
    for name in sorted(os.listdir("docs/examples")):
        with open(f"docs/examples/{name}", encoding="utf-8") as file:
            examples += file.read()
    with open("docs/vmm.md", encoding="utf-8") as file:
        blocks = re.findall(r"^```c\n(.*?)^```$", file.read(), re.MULTILINE | re.DOTALL)
    missing = [block for block in blocks if block not in examples]
    if missing or not blocks:
        raise Failed("\n".join(missing) or "docs/vmm.md shows no code")


def anchors(page):
    """What GitHub calls the headings of a page, which has no code blocks any more."""
    found = []
    for heading in re.findall(r"^#{1,6} +(.*?)[ #]*$", page, re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        again = sum(1 for other in found if re.sub(r"-\d+$", "", other) == slug)
        found.append(f"{slug}-{again}" if again else slug)
    return found


def links():
    """What the pages link to in this repository is there."""
    names, pages, wrong = set(context.tracked()), {}, []
    for name in names:
        if name.endswith(".md"):
            with open(name, encoding="utf-8") as file:
                pages[name] = re.sub(r"^(```+).*?^\1$", "", file.read(), flags=re.MULTILINE | re.DOTALL)
    for name, page in sorted(pages.items()):
        for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", re.sub(r"`[^`\n]+`", "", page)):
            path, _, anchor = target.partition("#")
            file = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
            if re.match(r"[a-z]+:", target):
                continue
            if file not in names and not any(other.startswith(f"{file}/") for other in names):
                wrong.append(f"{name}: there is no {target}")
            elif anchor and anchor not in anchors(pages.get(file, "")):
                wrong.append(f"{name}: {file} has no heading for {target}")
    if wrong:
        raise Failed("\n".join(wrong))


DRAW = """#include "draw.h"
int main(void)
{
	draw(PICTURE_WANTED, MIDDLE, false, true);
	draw(PICTURE_MAPPED, WINDOW_IOVA, true, true);
	return 0;
}
"""


def pictures():
    """Whatever shows a picture of the demo shows what the demo draws, and README shows all of them."""
    program = os.path.abspath(f"{context.OUT}/draw")
    os.makedirs(os.path.dirname(program), exist_ok=True)
    status, output = call(
        "gcc", "-Wall", "-Werror", f"-I{TOP}/lab/demo", f"-I{TOP}/tools/vfio-msi", "-o", program, "-x", "c", "-", f"{TOP}/tools/vfio-msi/picture.c", data=DRAW
    )
    if status:
        raise Failed(output)
    drawn = [[line.strip() for line in picture.splitlines()] for picture in call(program)[1].strip("\n").split("\n\n\n")]
    scale, seen = drawn[0][0], {}
    for name in context.tracked():
        with open(name, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file]
        seen[name] = [lines[n : n + 3] for n, line in enumerate(lines) if line == scale]
    wrong = [f"{name} shows what the demo does not draw:\n" + "\n".join(picture) for name in seen for picture in seen[name] if picture not in drawn]
    wrong += ["README.md lacks what the demo draws:\n" + "\n".join(picture) for picture in drawn if picture not in seen["README.md"]]
    if wrong:
        raise Failed("\n".join(wrong))


def licences():
    """Of every file it is known who wrote it and what it may be used for, and the texts are there; see REUSE.toml."""
    status, output = call("reuse", "lint", "--lines")
    if status:
        raise Failed(output)
