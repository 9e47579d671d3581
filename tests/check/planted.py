# SPDX-License-Identifier: GPL-2.0-only
"""Every check of this folder notices the mistake that it is for: each is given one, and has to fail and say what.

Prints TAP.  Runs in the tool root.  Mistakes are made in a checkout of the patched tree and in a folder of files, nowhere else.
"""

import contextlib
import functools
import os
import re
import shutil
import sys

from lab.tree import tree
from tests import mutants, tap
from tests.check import context, kernel, patches, repository

TYPE1 = "drivers/vfio/vfio_iommu_type1.c"
HEADER = "include/uapi/linux/vfio.h"
OURS = f"{kernel.SELFTESTS}/vfio_reserved_msi_iova_test.c"
ANCHOR = "static bool vfio_dma_is_msi("  # what the series adds, with nothing before it that matters

TWO = [TYPE1, "drivers/iommu/dma-iommu.c"]  # several at once, as for the real series

TESTS = []


def planted(name):
    def add(function):
        TESTS.append((name, function))
        return function

    return add


class Planted(tree.Tree):
    """A checkout to make mistakes in, in the place of the tree."""

    def __init__(self, name, of):
        super().__init__(of.base)
        self.path = os.path.abspath(f"{context.OUT}/{name}")
        tree.remove(self.path)
        tree.git(context.TOP, "clone", "-q", "--shared", of.path, self.path)
        tree.git(self.path, "config", "user.name", tree.AUTHOR[0])
        tree.git(self.path, "config", "user.email", tree.AUTHOR[1])

    def edit(self, file, old, new):
        path = f"{self.path}/{file}"
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
        assert old in text, f"{file} has no {old!r} any more: correct tests/check/planted.py"
        tree.write(path, text.replace(old, new, 1))

    def new(self, file, text):
        os.makedirs(os.path.dirname(f"{self.path}/{file}"), exist_ok=True)
        tree.write(f"{self.path}/{file}", text)
        tree.git(self.path, "add", "--force", file)

    def clean(self):
        tree.git(self.path, "reset", "-q", "--hard")


notices = functools.partial(tap.refused, context.Failed)


@contextlib.contextmanager
def files(**texts):
    """The repository's files are these."""
    where = os.path.abspath(f"{context.OUT}/files")
    tree.remove(where)
    os.makedirs(where)
    for name, text in texts.items():
        tree.write(f"{where}/{name.replace('_', '.')}", text)
    before = context.tracked
    context.tracked = lambda: sorted(name for name in os.listdir(where) if os.path.isfile(name))
    os.chdir(where)
    try:
        yield
    finally:
        os.chdir(context.TOP)
        context.tracked = before


@planted("shellcheck")
def shell(_):
    with files(a_sh="#!/bin/bash\nrm $1/*\n"):
        notices(repository.shellcheck, "SC2086")


@planted("python")
def python(_):
    with files(a_py="import os\n"):
        notices(repository.python, "a.py", "imported but unused")


@planted("spelling")
def spelling(_):
    wrong = "re" + "cieved"
    patch = f"Subject: It {wrong}\n\nWhy.\n---\n\ndiff --git a/b b/b\n-It {wrong}\n+We {wrong}\n"
    with files(a_md=f"It was {wrong}.\n", b_patch=patch):
        notices(repository.spelling, f"a.md:1: {wrong}", f"b.patch:1: {wrong}", f"b.patch:8: {wrong}")


@planted("no kernel source committed")
def kernel_source(linux):
    with files():
        shutil.copy(f"{linux.pristine}/COPYING", "ours")
        notices(repository.no_kernel_source, "ours")


@planted("licences")
def licences(_):
    with files(a_py="# SPDX-" + "License-Identifier: GPL-2.0-only\n", b_c="// SPDX-" + "License-Identifier: MIT\n"):
        shutil.copytree(f"{context.TOP}/LICENSES", "LICENSES")
        os.remove("LICENSES/MIT.txt")
        # Otherwise the files are some that the repository around them ignores.
        tree.git(".", "init", "-q")
        notices(repository.licences, "a.py: no copyright", "MIT")


@planted("links")
def links(_):
    page = "# A page\n\n## With `code`, twice\n\n## With `code`, twice\n\n"
    good = "[this](#with-code-twice-1), [that](b.md#a-page), [there](https://example.com/c.md#nowhere), `[code](c.md)`\n"
    with files(a_md=page + good, b_md=page):
        repository.links()
        tree.write("a.md", page + good + "[gone](c.md) and [no heading](b.md#a-paage)\n")
        notices(repository.links, "a.md: there is no c.md", "a.md: b.md has no heading for b.md#a-paage")


@planted("pictures")
def pictures(_):
    with open("README.md", encoding="utf-8") as file:
        text = file.read()
    assert "--------W---" in text
    with files(README_md=text, letter=text.replace("--------W---", "---------W--")):
        notices(repository.pictures, "letter shows", "---------W--")
    with files(README_md=text.replace("##D...", "###D..")):
        notices(repository.pictures, "README.md shows", "README.md lacks", "###D..")


@planted("promises have tests")
def promises(_):
    with files(README_md="## What is promised\n\n| promise | patch | test |\n| --- | --- | --- |\n| it works | 99 | `of_course` |\n"):
        notices(repository.promises_have_tests, "no patch 99", "of_course")


@planted("maintainers")
def maintainers(linux):
    linux.new("nobodys.c", "int nobodys;\n")
    notices(patches.maintainers, "nobodys.c")


@planted("6.12 has the same interface")
def interface(_):
    patch = f"{context.OUT}/0001-planted.patch"
    backport = next(name for name in context.LTS.patch_files() if "Let-user-space-choose" in name)
    with open(backport, encoding="utf-8") as file:
        tree.write(patch, file.read().replace("VFIO_RESERVED_MSI_IOVA\t\t11", "VFIO_RESERVED_MSI_IOVA\t\t12"))
    files = [patch if name == backport else name for name in context.LTS.patch_files()]
    context.LTS.patch_files = lambda: files
    notices(patches.same_interface, patch)
    del context.LTS.patch_files


@planted("QEMU has the kernel's header")
def qemu_header(linux):
    linux.edit(HEADER, "relaxable", "relaxed")
    notices(patches.same_header, "relaxed")


@planted("mutants apply")
def mutants_apply(linux):
    linux.edit(TYPE1, "ret = -EEXIST;", "ret = -EBUSY;")
    notices(patches.mutants_apply, TYPE1, "mutants.patch")


@planted("mutants are in the table")
def mutants_in_table(_):
    known = mutants.MUTANTS
    mutants.MUTANTS = [mutant for mutant in known if mutant.number != known[0].number]
    notices(patches.mutants_apply, f"[{known[0].number}]")
    mutants.MUTANTS = known


@planted("checkpatch")
def checkpatch(linux):
    patch = f"{context.OUT}/0001-planted.patch"
    with open(linux.patch_files()[0], encoding="utf-8") as file:
        tree.write(patch, re.sub(r"^\+(?!\+\+)(.*)$", r"+\1   ", file.read(), count=1, flags=re.MULTILINE))
    notices(lambda: patches.checkpatch(linux, [patch, *linux.patch_files()[:1]]), f"{patch}:", "TRAILING_WHITESPACE")


@planted("checkpatch, QEMU")
def checkpatch_qemu(_):
    patch = f"{context.OUT}/0001-planted.patch"
    with open(context.QEMU.patch_files()[1], encoding="utf-8") as file:
        tree.write(patch, re.sub(r"^\+(?!\+\+)(.*)$", r"+\1   ", file.read(), count=1, flags=re.MULTILINE))
    notices(lambda: patches.checkpatch_qemu([patch]), "trailing whitespace")


@planted("the code of docs/vmm.md is that of docs/examples")
def documented_code(_):
    with files():
        os.makedirs("docs/examples")
        tree.write("docs/examples/vmm.c", "int main(void);\n")
        tree.write("docs/vmm.md", "```c\nint main(void);\n```\n\n```c\nint planted;\n```\n")
        notices(repository.documented_code, "int planted;")


@planted("kernel-doc")
def kernel_doc(linux):
    linux.edit("include/linux/iommu.h", " * @base: First IOVA of the region\n", "")
    notices(lambda: kernel.kernel_doc(["include/linux/iommu.h"]), "base")


@planted("Sphinx")
def documentation(linux):
    linux.edit("Documentation/driver-api/vfio.rst", "doorbells live\n" + 33 * "-", "doorbells live\n" + 9 * "-")
    notices(lambda: kernel.documentation(["Documentation/driver-api/vfio.rst"]), "underline too short")


@planted("Sphinx, QEMU")
def documentation_qemu(_):
    qemu = Planted("planted-qemu", context.QEMU)
    real, context.QEMU = context.QEMU, qemu
    try:
        qemu.new("page.rst", "A page\n=====\n")
        notices(lambda: kernel.documentation_qemu(["page.rst"]), "underline too short")
    finally:
        context.QEMU = real
        tree.remove(qemu.path)


@planted("uapi header in C")
def header_c(linux):
    linux.edit(HEADER, "\t__u32\tgranule;", "\tu32\tgranule;")
    notices(kernel.header, "u32")


@planted("uapi header in C++")
def header_cxx(linux):
    linux.edit(HEADER, "\t__u32\tgranule;", "\t__u32\tclass;")
    notices(kernel.header, "class")


@planted("W=1")
def compiler(linux):
    linux.edit(TYPE1, ANCHOR, "static int planted(int i)\n{\n\tint unused;\n\n\tunused = i;\n\treturn i;\n}\nint planted_too;\n\n" + ANCHOR)
    notices(lambda: kernel.compiler_and_sparse(TWO), "set but not used")


@planted("sparse")
def sparse(linux):
    linux.edit(TYPE1, ANCHOR, "int planted(int __user *p);\nint planted(int __user *p)\n{\n\treturn *p;\n}\n\n" + ANCHOR)
    notices(lambda: kernel.compiler_and_sparse(TWO), "dereference of noderef expression")


@planted("sizeof(struct vfio_dma)")
def size(linux):
    linux.edit(TYPE1, "\tu8\t\t\ttype;", "\tu64\t\t\ttype;")
    kernel.compile_both([TYPE1])
    notices(kernel.size_of_vfio_dma, "bytes on stock")


@planted("coccinelle, a script in OCaml")
def coccinelle(linux):
    linux.edit(TYPE1, ANCHOR, "static bool planted(struct vfio_dma *dma)\n{\n\treturn dma == 0;\n}\n\n" + ANCHOR)
    notices(lambda: kernel.coccinelle("null/badzero"), TYPE1)


@planted("coccinelle, a script in Python")
def coccinelle_python(linux):
    linux.edit(TYPE1, ANCHOR, "static void planted(struct vfio_dma *dma)\n{\n\tif (dma)\n\t\tkfree(dma);\n}\n\n" + ANCHOR)
    notices(lambda: kernel.coccinelle("free/ifnullfree"), TYPE1)


@planted("another compiler: x86")
def x86(linux):
    linux.edit(TYPE1, ANCHOR, "#ifdef CONFIG_X86\nstatic void planted(void)\n{\n}\n#endif\n" + ANCHOR)
    notices(lambda: kernel.other_compiler("x86"), "planted")


@planted("another compiler: 32 bits")
def arm(linux):
    linux.edit(TYPE1, ANCHOR, "size_t planted(size_t size);\nsize_t planted(size_t size)\n{\n\treturn size >> 40;\n}\n\n" + ANCHOR)
    notices(lambda: kernel.other_compiler("arm"), "shift count")


@planted("selftests")
def selftests(linux):
    linux.edit(OURS, "\nFIXTURE(", "\nstatic void planted(void)\n{\n}\n\nFIXTURE(")
    notices(lambda: kernel.selftests("x86"), "planted")


@planted("allmodconfig")
def allmodconfig(linux):
    # Of a configuration that only this kernel has.
    linux.edit(TYPE1, ANCHOR, "#ifdef CONFIG_KASAN\nstatic void planted(void)\n{\n}\n#endif\n" + ANCHOR)
    notices(kernel.everything_configured, "planted")


@planted("every patch builds")
def every_patch(linux):
    """One that does not, and one that mends it."""
    tree.git(linux.path, "tag", "-f", "base", "HEAD")
    linux.edit(TYPE1, ANCHOR, "#error planted\n" + ANCHOR)
    tree.git(linux.path, "commit", "-q", "-a", "-m", "vfio/type1: Plant a mistake")
    linux.edit(TYPE1, "#error planted\n", "")
    tree.git(linux.path, "commit", "-q", "-a", "-m", "vfio/type1: Mend it")
    linux.base = "planted"
    tree.remove(f"{context.OUT}/each.planted")  # a clone of what the last run planted
    notices(lambda: patches.every_patch_builds(linux), "Plant a mistake", "#error planted")


def main():
    os.chdir(context.TOP)
    # What was made of mistakes is newer than the real series' files, and make would take it for made of those.
    context.OUT = "build/planted"
    os.makedirs(context.OUT, exist_ok=True)
    context.LINUX.pristine = os.path.abspath(context.LINUX.pristine)
    real = context.BOTH
    wanted = [(name, function) for name, function in TESTS if not sys.argv[1:] or sys.argv[1] in name]
    print(f"TAP version 13\n1..{len(wanted)}", flush=True)
    linux = Planted("planted", real)
    linux.pristine, linux.patches = context.LINUX.pristine, context.LINUX.patches
    assert linux.parent  # looked up in bases/ once, here; files() goes elsewhere
    context.LINUX = context.BOTH = linux
    for name in context.SOURCES:
        for arch in kernel.CONFIGS:
            kernel.prepare(name, arch)
    context.SOURCES = dict(context.SOURCES, patched=linux.path)
    failed = 0
    for number, (name, function) in enumerate(wanted, 1):
        linux.clean()
        failed += tap.run(number, name, lambda: function(linux))
    tree.remove(linux.path)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
