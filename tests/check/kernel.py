# SPDX-License-Identifier: GPL-2.0-only
"""The files that the series touches: what compilers, sparse, kernel-doc, Sphinx and coccinelle say of them.

What stock's files are warned about is not held against the series: the warnings of every file it touches are compared with those
of the same file in stock.  A warning names its file, so that all files are looked at by one command for each of the two: make
takes seconds before it compiles anything.
"""

import collections
import concurrent.futures
import contextlib
import hashlib
import json
import os
import re
import shutil

from lab.kernel.build import options
from lab.tree import tree
from tests.check import context
from tests.check.context import JOBS, Failed, call, make, no_new_warnings, touched

# Small kernels with VFIO, for which the series is compiled: fragments of lab/kernel, or tests/check. Nothing that changes the
# size of structures.
CONFIGS = {
    "arm64": ("lab/kernel/base.config",),
    "x86": ("lab/kernel/base.config", "lab/kernel/x86.config"),
    "arm": ("tests/check/arm.config",),
}
KUNIT = "CONFIG_KUNIT=y\nCONFIG_IOMMU_DMA_KUNIT_TEST=y\n"
# One set for all that is done in one place, or make takes what it has for out of date. -g is for pahole.
FLAGS = ("W=1", "KCFLAGS=-g")
MOCK = "lab/kernel/mock.config"  # where it can be had: what iommufd's tests have in the kernel
# What the series changes is in these.
DIRECTORIES = ("drivers/iommu/", "drivers/vfio/", "drivers/irqchip/")
SELFTESTS = "tools/testing/selftests/vfio"
# By directory, how its programs are built.
MAKE_SELFTESTS = {
    directory: ("-C", f"/src/{directory}", "OUTPUT=/out", "KHDR_INCLUDES=-isystem /out/usr/include", flags)
    for directory, flags in ((SELFTESTS, "EXTRA_CFLAGS=-O2 -static"), ("tools/testing/selftests/iommu", "LDFLAGS=-static"))
}


def compiled():
    """Of the C files touched, those with an object; the others are included in these."""
    for name in touched(".c"):
        with open(f"{context.BOTH.path}/{os.path.dirname(name)}/Makefile", encoding="utf-8") as file:
            if re.search(rf"\b{re.escape(os.path.basename(name)[:-2])}\.o\b", file.read()):
                yield name


def out(name, arch):
    return f"{context.OUT}/{name}.{arch}"


def configure(source, where, arch, more=(), text="", flags=()):
    wanted = text
    for fragment in (*CONFIGS[arch], *more):
        with open(fragment, encoding="utf-8") as file:
            wanted += file.read()
    os.makedirs(where, exist_ok=True)
    tree.write(f"{where}/lab.config", "".join(f"{option}={value}\n" for option, value in options(wanted).items()))
    make(source, where, "KCONFIG_ALLCONFIG=/out/lab.config", "allnoconfig", arch=arch)
    with open(f"{where}/.config", encoding="utf-8") as file:
        if options(file.read()).get("CONFIG_VFIO_IOMMU_TYPE1") != "y":
            raise Failed(f"{' and '.join(CONFIGS[arch])} make a kernel without VFIO: an option that it depends on is missing there")
    make(source, where, "prepare", *flags, arch=arch)


def prepare(name, arch):
    configure(context.SOURCES[name], out(name, arch), arch, (MOCK,) if arch == "arm64" else (), KUNIT, FLAGS)


def there(source, files):
    return [file for file in files if os.path.exists(f"{source}/{file}")]


def compile_both(files, *args):
    """What is said about these files in stock, which may lack some of them, and in patched."""
    said = []
    for name, source in context.SOURCES.items():
        objects = [f"{file[:-2]}.o" for file in there(source, files)]
        for target in objects:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{out(name, 'arm64')}/{target}")
        # What is said about one file is not to be in the middle of what is said about another.
        said.append(make(source, out(name, "arm64"), "--output-sync", *FLAGS, *args, *objects))
    return said


def compiler_and_sparse(files):
    said = compile_both(files, "C=2", f"CHECK={os.path.abspath('tests/check/sparse')}")
    for text in said:
        if "C=2 specified, but" in text:
            raise Failed(f"the kernel's Makefile leaves sparse out: correct tests/check/sparse\n{text}")
    no_new_warnings(*said)


def size_of_vfio_dma():
    """In the objects that the compiler made when it was asked for warnings."""
    sizes = {}
    for name in context.SOURCES:
        output = call("pahole", "-F", "dwarf", "-C", "vfio_dma", f"{out(name, 'arm64')}/drivers/vfio/vfio_iommu_type1.o")[1]
        match = re.search(r"/\* size: (\d+)", output)
        if not match:
            raise Failed(f"pahole does not know the size in {name}:\n{output}")
        sizes[name] = int(match[1])
    if sizes["stock"] != sizes["patched"]:
        raise Failed(f"{sizes['stock']} bytes on stock, {sizes['patched']} on patched")


def other_compiler(arch):
    said = []
    for name, source in context.SOURCES.items():
        for directory in DIRECTORIES:
            tree.remove(f"{out(name, arch)}/{directory}")
        said.append(make(source, out(name, arch), "--output-sync", *FLAGS, *DIRECTORIES, arch=arch))
    no_new_warnings(*said)


def everything_configured():
    """Every driver of VFIO and IOMMUs, and of what is nowhere else configured, in a kernel that makes errors of warnings."""
    where = f"{context.OUT}/allmodconfig"
    make(context.BOTH.path, where, "allmodconfig")
    make(context.BOTH.path, where, "drivers/vfio/", "drivers/iommu/", "drivers/irqchip/irq-ls-scfg-msi.o")


def selftests(arch):
    """From scratch; VFIO's Makefile makes errors of warnings."""
    where = f"{context.OUT}/selftests.{arch}"
    tree.remove(where)
    make(context.BOTH.path, where, "headers_install", arch=arch)
    for words in MAKE_SELFTESTS.values():
        make(context.BOTH.path, where, *words, arch=arch)


HEADER = """#include <linux/vfio.h>
int main(void)
{
	struct vfio_iommu_type1_info_cap_msi_geometry cap = { { VFIO_IOMMU_TYPE1_INFO_CAP_MSI_GEOMETRY, 1, 0 }, 0, 0, 0, 0, 0, 0 };
	char size[sizeof(cap) == 40 ? 1 : -1] = { 0 };

	return (int)cap.flags + size[0] + (VFIO_DMA_MAP_FLAG_RESERVED_MSI_IOVA & VFIO_RESERVED_MSI_IOVA);
}
"""


def header():
    """The uapi header as programs get to see it, in C and in C++."""
    where = f"{context.OUT}/header"
    make(context.BOTH.path, where, "headers_install", arch="x86")
    for compiler in (("gcc", "-std=c90", "-x", "c"), ("g++", "-std=c++11", "-x", "c++")):
        status, output = call(
            *compiler, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-isystem", "/usr/include", "-I", f"{where}/usr/include", "-", data=HEADER
        )
        if status:
            raise Failed(output)


def kernel_doc(files):
    said = [call("scripts/kernel-doc", "-none", "-Wall", *there(source, files), cwd=source)[1] for source in context.SOURCES.values()]
    no_new_warnings(*said)


def book(where, source, pages):
    """A book of these pages, where it has them in the source."""
    for page in there(source, pages):
        os.makedirs(os.path.dirname(f"{where}/{page}"), exist_ok=True)
        shutil.copy(f"{source}/{page}", f"{where}/{page}")


def index(pages):
    return "Index\n=====\n\n.. toctree::\n\n" + "".join(f"   {page.removesuffix('.rst')}\n" for page in pages)


def documentation(pages):
    """With the kernel's Sphinx: its configuration and extensions, and these pages alone."""
    said = []
    for name, source in context.SOURCES.items():
        # An extension looks for MAINTAINERS beside a folder of this name.
        where = f"{context.OUT}/documentation.{name}"
        tree.remove(where)
        os.makedirs(f"{where}/Documentation")
        os.symlink(os.path.abspath(f"{source}/MAINTAINERS"), f"{where}/MAINTAINERS")
        book(where, source, pages)
        tree.write(f"{where}/Documentation/index.rst", index(os.path.relpath(page, "Documentation") for page in there(source, pages)))
        status, output = call(
            "env", f"srctree={os.path.abspath(source)}", "sphinx-build", "-q", "-b", "html", "-c", f"{source}/Documentation", "-d", f"{where}/trees",
            "-D", f"kerneldoc_srctree={os.path.abspath(source)}", f"{where}/Documentation", f"{where}/html",
        )
        if status:
            raise Failed(output)
        said.append(output.replace(f"{os.path.abspath(where)}/", ""))
    no_new_warnings(*said)


def documentation_qemu(pages):
    """The pages alone, without QEMU's configuration, of which they need the substitutions only."""
    where = f"{context.OUT}/documentation.qemu"
    tree.remove(where)
    os.makedirs(where)
    book(where, context.QEMU.path, pages)
    tree.write(f"{where}/index.rst", index(pages))
    with open(f"{context.QEMU.path}/docs/defs.rst.inc", encoding="utf-8") as file:
        substitutions = file.read()
    status, output = call("sphinx-build", "-q", "-W", "-C", "-D", f"rst_epilog={substitutions}", "-b", "html", where, f"{where}/html")
    if status:
        raise Failed(output)


def remembered(notes):
    with contextlib.suppress(FileNotFoundError), open(notes, encoding="utf-8") as file:
        return json.load(file)
    return {}


def coccinelle(which="*"):
    """What scripts/coccicheck does for a file, all scripts. What was said about a file's contents once is not asked again."""
    where, notes = f"{context.OUT}/coccinelle", f"{context.OUT}/coccinelle.{re.sub('[^a-z0-9]', '-', which)}.json"
    scripts = tree.git(context.BOTH.path, "ls-files", f"scripts/coccinelle/{which}.cocci").split()
    known, wanted = remembered(notes), {}
    tree.remove(where)
    for name, source in context.SOURCES.items():
        texts = [tree.git(context.BOTH.path, "rev-parse", *(f"HEAD:{script}" for script in scripts)), call("spatch", "--version")[1]]
        for file in touched(".c", ".h"):
            if os.path.exists(f"{source}/{file}"):
                with open(f"{source}/{file}", encoding="utf-8") as stream:
                    key = hashlib.sha256("\0".join([file, stream.read(), *texts]).encode()).hexdigest()
                wanted[name, file] = key
                if key not in known:
                    os.makedirs(os.path.dirname(f"{where}/{key}/{file}"), exist_ok=True)
                    shutil.copy(f"{source}/{file}", f"{where}/{key}/{file}")
    source = os.path.abspath(context.BOTH.path)
    places = ("arch/arm64/include", "include", "arch/arm64/include/uapi", "include/uapi")
    includes = [word for place in places for word in ("-I", f"{source}/{place}")]

    def reports(script):
        with open(f"{source}/{script}", encoding="utf-8") as file:
            text = file.read()
        if not re.search(r"^virtual\b.*\breport\b", text, re.MULTILINE):
            return ""
        more = [word for line in re.findall(r"^.*Options:(.*)$", text, re.MULTILINE) for word in line.split()]
        status, output = call(
            "spatch", "-D", "report", "--no-show-diff", "--very-quiet", "--cocci-file", f"{source}/{script}", *more, *includes, "--dir", ".", cwd=where
        )
        if status:
            raise Failed(f"{script}:\n{output[-2000:]}")
        return output

    if os.path.isdir(where):
        said = {key: [] for key in os.listdir(where)}
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            for script, output in zip(scripts, pool.map(reports, scripts)):
                for key, text in re.findall(r"^(?:\./)?([0-9a-f]{64})/[^:\s]+:\d+\S*:? *(.*)$", output, re.MULTILINE):
                    # Reports name other lines, which every patch moves.
                    said[key].append(f"{re.sub(r'[0-9]+', 'N', text)} ({script})")
        known = {key: known.get(key) or said.get(key, []) for key in wanted.values()}
        tree.write(notes, json.dumps(known))
    new = []
    for (name, file), key in wanted.items():
        if name == "patched":
            before = known.get(wanted.get(("stock", file)), [])
            new += [f"{file}: {text}" for text in collections.Counter(known[key]) - collections.Counter(before)]
    if new:
        raise Failed("\n".join(new))
