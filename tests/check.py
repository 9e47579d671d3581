# SPDX-License-Identifier: GPL-2.0-only
"""Static checks of the series and of this repository.

    check.py [--quick]      --quick leaves out what takes minutes: coccinelle, other architectures, the build of every patch

Prints TAP.  Called by lab/check in the tool root.  What stock's files are warned about is not held against the series: the
warnings of every file it touches are compared with those of the same file in stock.  tests/planted.py shows that each check
notices what it is for.
"""

import collections
import concurrent.futures
import contextlib
import difflib
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time

from lab.kernel.build import COMPILERS, options
from lab.tree import tree

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

OUT = "build/check"
LINUX, LTS, QEMU = tree.Tree("linux"), tree.Tree("linux-6.12"), tree.Tree("qemu")
BOTH = tree.Tree("linux-iommufd")  # the series that is onto LINUX's, and LINUX's: what it touches is looked at once, with both applied
SOURCES = {"stock": LINUX.pristine, "patched": BOTH.path}
JOBS = len(os.sched_getaffinity(0))

# Small kernels with VFIO, for which the series is compiled: fragments of lab/kernel, or tests/check. Nothing that changes the
# size of structures.
CONFIGS = {
    "arm64": ("lab/kernel/base.config",),
    "x86": ("lab/kernel/base.config", "lab/kernel/x86.config"),
    "arm": ("tests/check/arm.config",),
}
KUNIT = "CONFIG_KUNIT=y\nCONFIG_IOMMU_DMA_KUNIT_TEST=y\n"
MOCK = "lab/kernel/mock.config"  # where it can be had: what iommufd's tests have in the kernel
# What the series changes is in these.
DIRECTORIES = ("drivers/iommu/", "drivers/vfio/", "drivers/irqchip/")
SELFTESTS = "tools/testing/selftests/vfio"
# By directory, how its programs are built.
MAKE_SELFTESTS = {
    directory: ("-C", f"/src/{directory}", "OUTPUT=/out", "KHDR_INCLUDES=-isystem /out/usr/include", flags)
    for directory, flags in ((SELFTESTS, "EXTRA_CFLAGS=-O2 -static"), ("tools/testing/selftests/iommu", "LDFLAGS=-static"))
}
EXCEPTIONS = "tests/check/checkpatch"


class Failed(Exception):
    pass


def call(*command, cwd=None, data=None):
    result = subprocess.run(
        command, cwd=cwd, input=data, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )
    return result.returncode, result.stdout


def make(source, where, *args, arch="arm64"):
    """make in a kernel tree, as lab/kernel/build.py does it."""
    status, output = call(
        "lab/in-root", "--bind", source, "/src", "--bind", where, "/out", "make", "-s", f"-j{JOBS}", "-C", "/src", "O=/out", *COMPILERS[arch],
        "HOSTCC=ccache gcc", "LOCALVERSION=", *args,
    )
    if status:
        raise Failed(output[-2000:])
    return output


def touched_by_series(kind="d", series=None):
    series = series or BOTH
    return tree.git(series.path, "diff", "--name-only", f"--diff-filter={kind}", series.unpatched).split()


def touched(*suffixes):
    return [name for name in touched_by_series() if name.endswith(suffixes) and not name.startswith("tools/")]


def compiled():
    """Of the C files touched, those with an object; the others are included in these."""
    for name in touched(".c"):
        with open(f"{BOTH.path}/{os.path.dirname(name)}/Makefile", encoding="utf-8") as file:
            if re.search(rf"\b{re.escape(os.path.basename(name)[:-2])}\.o\b", file.read()):
                yield name


WARNING = re.compile(r"^(?:/src/|\./|\.\./)*([\w./-]+):\d+(?::\d+)?: (.*(?:warning|error).*)$", re.IGNORECASE)


def warnings(output):
    """The warnings in a compiler's, sparse's or kernel-doc's output, without the line numbers that every patch moves."""
    found = collections.Counter()
    for line in output.splitlines():
        if match := WARNING.match(re.sub(r"^(Warning|Error): (\S+:\d+) ", r"\2: \1: ", line)):
            found[f"{match[1]}: {match[2]}"] += 1
    return found


def no_new_warnings(before, after):
    new = warnings(after) - warnings(before)
    if new:
        raise Failed("\n".join(new))


def out(name, arch):
    return f"{OUT}/{name}.{arch}"


def configure(source, where, arch, more=(), text=""):
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
    make(source, where, "prepare", arch=arch)


def prepare(name, arch):
    configure(SOURCES[name], out(name, arch), arch, (MOCK,) if arch == "arm64" else (), KUNIT)


def compile_both(file, *args):
    """What is said about a file in stock (nothing, when it has no such file) and in patched."""
    said = []
    target = file[:-2] + ".o"
    for name, source in SOURCES.items():
        if not os.path.exists(f"{source}/{file}"):
            said.append("")
            continue
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{out(name, 'arm64')}/{target}")
        said.append(make(source, out(name, "arm64"), "KCFLAGS=-g", *args, target))
    return said


# The checks


def not_asked(patch):
    with open(EXCEPTIONS, encoding="utf-8") as file:
        for line in file:
            if match := re.fullmatch(r"([A-Z_]+) (\S+): .+\n", line):
                if match[2] == "*" or match[2] in os.path.basename(patch):
                    yield match[1]
            elif line.strip() and not line.startswith("#"):
                raise Failed(f"{EXCEPTIONS}: correct this line, the first ones say how it is written: {line}")


def checkpatch(base, patch):
    # Author and sign-off are put in by `make series`.
    status, output = call(
        "perl", "scripts/checkpatch.pl", "--strict", "--codespell", "--codespellfile=/usr/lib/python3/dist-packages/codespell_lib/data/dictionary.txt",
        "--no-signoff", f"--ignore={','.join(not_asked(patch))}", "--no-summary", "--terse", "--show-types", os.path.abspath(patch), cwd=base.path,
    )
    if status:
        raise Failed(output)


def checkpatch_qemu(patch):
    # QEMU's has words of its own. A warning counts, but for that about headers which are not in a release of Linux.
    strict = [] if "-linux-headers-" in patch else ["--strict"]
    status, output = call("perl", "scripts/checkpatch.pl", *strict, "--no-signoff", "--no-summary", "--terse", os.path.abspath(patch), cwd=QEMU.path)
    # New files are MAINTAINERS' by their folder, which it does not look up.
    told = [line for line in output.splitlines() if "WARNING: added, moved or deleted file(s):" not in line]
    if status and told:
        raise Failed("\n".join(told))


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


def compiler_and_sparse(file):
    said = compile_both(file, "W=1", "C=2", f"CHECK={os.path.abspath('tests/check/sparse')}")
    for text in said:
        if "C=2 specified, but" in text:
            raise Failed(f"the kernel's Makefile leaves sparse out: correct tests/check/sparse\n{text}")
    no_new_warnings(*said)


def other_compiler(arch):
    said = []
    for name, source in SOURCES.items():
        for directory in DIRECTORIES:
            tree.remove(f"{out(name, arch)}/{directory}")
        said.append(make(source, out(name, arch), "W=1", *DIRECTORIES, arch=arch))
    no_new_warnings(*said)


def everything_configured():
    """Every driver of VFIO and IOMMUs, and of what is nowhere else configured, in a kernel that makes errors of warnings."""
    where = f"{OUT}/allmodconfig"
    make(BOTH.path, where, "allmodconfig")
    make(BOTH.path, where, "drivers/vfio/", "drivers/iommu/", "drivers/irqchip/irq-ls-scfg-msi.o")


def selftests(arch):
    """From scratch; VFIO's Makefile makes errors of warnings."""
    where = f"{OUT}/selftests.{arch}"
    tree.remove(where)
    make(BOTH.path, where, "headers_install", arch=arch)
    for words in MAKE_SELFTESTS.values():
        make(BOTH.path, where, *words, arch=arch)


HEADER = """#include <linux/vfio.h>
int main(void)
{
	struct vfio_iommu_type1_info_cap_msi_geometry cap = { { VFIO_IOMMU_TYPE1_INFO_CAP_MSI_GEOMETRY, 1, 0 }, 0, 0, 0, 0, 0, 0 };
	char size[sizeof(cap) == 40 ? 1 : -1] = { 0 };

	return (int)cap.flags + size[0] + (VFIO_DMA_MAP_FLAG_RESERVED_MSI_IOVA & VFIO_RESERVED_MSI_IOVA);
}
"""


def header(language, *compiler):
    """The uapi header as a program gets to see it."""
    where = f"{OUT}/header"
    make(BOTH.path, where, "headers_install", arch="x86")
    status, output = call(
        *compiler, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-isystem", "/usr/include", "-I", f"{where}/usr/include", "-x", language, "-",
        data=HEADER,
    )
    if status:
        raise Failed(output)


def book(where, file):
    """A book of one page."""
    page = os.path.basename(file)
    if os.path.exists(file):
        shutil.copy(file, f"{where}/{page}")
    tree.write(f"{where}/index.rst", f"Index\n=====\n\n.. toctree::\n\n   {page[: -len('.rst')]}\n")


def documentation(file):
    """With the kernel's Sphinx: its configuration and extensions, and this page alone."""
    said = []
    for name, source in SOURCES.items():
        # An extension looks for MAINTAINERS beside a folder of this name.
        where = f"{OUT}/documentation.{name}"
        tree.remove(where)
        os.makedirs(f"{where}/Documentation")
        os.symlink(os.path.abspath(f"{source}/MAINTAINERS"), f"{where}/MAINTAINERS")
        book(f"{where}/Documentation", f"{source}/{file}")
        status, output = call(
            "env", f"srctree={os.path.abspath(source)}", "sphinx-build", "-q", "-b", "html", "-c", f"{source}/Documentation", "-d", f"{where}/trees",
            "-D", f"kerneldoc_srctree={os.path.abspath(source)}", f"{where}/Documentation", f"{where}/html",
        )
        if status:
            raise Failed(output)
        said.append(output.replace(os.path.abspath(f"{where}/Documentation"), os.path.dirname(file)))
    no_new_warnings(*said)


def documentation_qemu(file):
    """The page alone, without QEMU's configuration, of which it needs the substitutions only."""
    where = f"{OUT}/documentation.qemu"
    tree.remove(where)
    os.makedirs(where)
    book(where, f"{QEMU.path}/{file}")
    with open(f"{QEMU.path}/docs/defs.rst.inc", encoding="utf-8") as file:
        substitutions = file.read()
    status, output = call("sphinx-build", "-q", "-W", "-C", "-D", f"rst_epilog={substitutions}", "-b", "html", where, f"{where}/html")
    if status:
        raise Failed(output)


def maintainers():
    """Every new file has someone to send its patches to."""
    alone = []
    for name in touched_by_series("A"):
        people = call("perl", "scripts/get_maintainer.pl", "--nogit", "--nogit-fallback", "-f", name, cwd=BOTH.path)[1]
        if not re.search(r"\((maintainer|supporter|reviewer):(?!THE REST)", people):
            alone.append(name)
    if alone:
        raise Failed("MAINTAINERS names nobody for:\n" + "\n".join(alone))


def changed_lines(text):
    return [line for line in text.splitlines() if re.match(r"[+-](?!(\+\+|--) )", line)]


def told_to_users(patch):
    """What a patch does to include/uapi and Documentation, line by line."""
    with open(patch, encoding="utf-8") as file:
        parts = re.split(r"^diff --git a/(\S+) .*\n", file.read(), flags=re.MULTILINE)
    texts = [text for name, text in zip(parts[1::2], parts[2::2]) if name.startswith(("include/uapi/", "Documentation/"))]
    return [line for text in texts for line in changed_lines(text)]


def same_interface():
    """The backport is the same to user space, to the letter, patch by patch."""
    for mainline, backport in itertools.zip_longest(LINUX.patch_files(), LTS.patch_files()):
        if (told_to_users(mainline) if mainline else []) != (told_to_users(backport) if backport else []):
            raise Failed(f"{backport} does not do to include/uapi and Documentation what {mainline} does")


def same_header():
    """QEMU's copies of the uapi headers get what an update from the kernel's would bring, to the letter."""
    for header in ("vfio.h", "iommufd.h"):
        headers = ((BOTH, f"include/uapi/linux/{header}"), (QEMU, f"linux-headers/linux/{header}"))
        lines = [changed_lines(tree.git(series.path, "diff", series.unpatched, "--", name)) for series, name in headers]
        differences = list(difflib.unified_diff(*lines, *(f"{series.patches}: {name}" for series, name in headers), n=0, lineterm=""))
        if differences or not lines[0]:
            raise Failed("\n".join(differences) or f"the series does not change {header}")


def kernel_doc(file):
    said = []
    for source in SOURCES.values():
        exists = os.path.exists(f"{source}/{file}")
        said.append(call("scripts/kernel-doc", "-none", "-Wall", file, cwd=source)[1] if exists else "")
    no_new_warnings(*said)


def size_of_vfio_dma():
    compile_both("drivers/vfio/vfio_iommu_type1.c")
    sizes = {}
    for name in SOURCES:
        output = call("pahole", "-F", "dwarf", "-C", "vfio_dma", f"{out(name, 'arm64')}/drivers/vfio/vfio_iommu_type1.o")[1]
        match = re.search(r"/\* size: (\d+)", output)
        if not match:
            raise Failed(f"pahole does not know the size in {name}:\n{output}")
        sizes[name] = int(match[1])
    if sizes["stock"] != sizes["patched"]:
        raise Failed(f"{sizes['stock']} bytes on stock, {sizes['patched']} on patched")


def no_kernel_source():
    """Only diffs may hold kernel code: no file in the repository is one of the kernel, under whatever name."""
    kernels = {line.split()[2] for line in tree.git(LINUX.path, "ls-tree", "-r", "base").splitlines()}
    names = [name for name in tracked() if os.path.getsize(name)]
    for name, blob in zip(names, tree.git(".", "hash-object", "--", *names).split()):
        if blob in kernels:
            raise Failed(f"{name} is the kernel's")


def tracked():
    return [name for name in tree.git(TOP, "ls-files", "-z").split("\0") if name and os.path.isfile(name)]


def interpreted_by(*words):
    for name in tracked():
        with open(name, "rb") as file:
            first = file.readline(100)
        if first.startswith(b"#!") and any(word in first.decode(errors="replace") for word in words):
            yield name


def shellcheck():
    sourced = [name for name in tracked() if name.endswith(".sh")]
    status, output = call("shellcheck", "-x", *interpreted_by("/bin/bash", "/bin/sh"), *sourced)
    if status:
        raise Failed(output)


def python():
    names = {name for name in tracked() if name.endswith(".py")} | set(interpreted_by("python3"))
    for name in sorted(names):
        with open(name, encoding="utf-8") as file:
            try:
                compile(file.read(), name, "exec")
            except SyntaxError as error:
                raise Failed(f"{name}: {error}") from error


def spelling():
    # Patches are checkpatch's, with its own dictionary.
    status, output = call("codespell", "-L", "fro,filp", *(name for name in tracked() if not name.startswith("patches/")))
    if status:
        raise Failed(output)


def promises_have_tests():
    """The tests that README names for each promise exist, and so do the patches, those of linux-iommufd after an i."""
    with open("README.md", encoding="utf-8") as file:
        table = file.read().split("## What is promised", 1)[1].split("\n## ", 1)[0]
    existing = {}  # what README calls a program -> its tests
    for name in [f"{BOTH.path}/{name}" for name in touched_by_series()] + tracked():
        if name.endswith(("_test.c", "kunit.c")) or "/selftests/iommu/" in name:
            program = os.path.basename(name).removeprefix("vfio_reserved_msi_").removesuffix("_test.c").removesuffix(".c")
            with open(name, encoding="utf-8") as file:
                existing["KUnit" if name.endswith("kunit.c") else program] = re.findall(r"(?:TEST_F(?:_TIMEOUT)?\(\w+, |KUNIT_CASE\()(\w+)", file.read())
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| ") and not line.startswith("| ---")][1:]
    numbers = {"": len(LINUX.patch_files()), "i": len(BOTH.patch_files())}
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


def coccinelle(which="*"):
    """What scripts/coccicheck does for a file, all scripts. What was said about a file's contents once is not asked again."""
    where, notes = f"{OUT}/coccinelle", f"{OUT}/coccinelle.{re.sub('[^a-z0-9]', '-', which)}.json"
    scripts = tree.git(BOTH.path, "ls-files", f"scripts/coccinelle/{which}.cocci").split()
    known, wanted = remembered(notes), {}
    tree.remove(where)
    for name, source in SOURCES.items():
        texts = [tree.git(BOTH.path, "rev-parse", *(f"HEAD:{script}" for script in scripts)), call("spatch", "--version")[1]]
        for file in touched(".c", ".h"):
            if os.path.exists(f"{source}/{file}"):
                with open(f"{source}/{file}", encoding="utf-8") as stream:
                    key = hashlib.sha256("\0".join([file, stream.read(), *texts]).encode()).hexdigest()
                wanted[name, file] = key
                if key not in known:
                    os.makedirs(os.path.dirname(f"{where}/{key}/{file}"), exist_ok=True)
                    shutil.copy(f"{source}/{file}", f"{where}/{key}/{file}")
    source = os.path.abspath(BOTH.path)
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


def remembered(notes):
    with contextlib.suppress(FileNotFoundError), open(notes, encoding="utf-8") as file:
        return json.load(file)
    return {}


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
    source = f"{OUT}/each.{base.base}"
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
        changed = tree.git(source, "show", "--format=", "--name-only", commit).split()
        try:
            build_what_changed(source, changed, known, more)
        except Failed as failed:
            raise Failed(f"{tree.git(source, 'log', '-1', '--format=%s', commit)}{failed}") from failed
        built[key] = True
        tree.write(f"{source}.json", json.dumps(built))


def plan(quick):
    checks = [("shellcheck", shellcheck), ("python", python), ("spelling", spelling), ("no kernel source committed", no_kernel_source)]
    checks += [("promises have tests", promises_have_tests), ("maintainers", maintainers), ("6.12 has the same interface", same_interface)]
    for base in (LINUX, BOTH) if quick else (LINUX, BOTH, LTS):
        for patch in base.patch_files():
            checks.append((f"checkpatch {os.path.relpath(patch, 'patches')}", lambda base=base, patch=patch: checkpatch(base, patch)))
    checks.append(("the code of docs/vmm.md is that of docs/examples", documented_code))
    checks.append(("QEMU has the kernel's headers", same_header))
    for patch in QEMU.patch_files():
        checks.append((f"checkpatch qemu/{os.path.basename(patch)}", lambda patch=patch: checkpatch_qemu(patch)))
    for file in touched_by_series("A", QEMU):
        if file.endswith(".rst"):
            checks.append((f"Sphinx qemu/{file}", lambda file=file: documentation_qemu(file)))
    for file in touched(".c", ".h"):
        checks.append((f"kernel-doc {file}", lambda file=file: kernel_doc(file)))
    for file in touched(".rst"):
        checks.append((f"Sphinx {file}", lambda file=file: documentation(file)))
    checks.append(("uapi header in C", lambda: header("c", "gcc", "-std=c90")))
    checks.append(("uapi header in C++", lambda: header("c++", "g++", "-std=c++11")))
    for name in SOURCES:
        checks.append((f"prepare {name}", lambda name=name: prepare(name, "arm64")))
    for file in compiled():
        checks.append((f"W=1 and sparse {file}", lambda file=file: compiler_and_sparse(file)))
    checks.append(("sizeof(struct vfio_dma) as on stock", size_of_vfio_dma))
    if quick:
        return checks
    checks.append(("coccinelle", coccinelle))
    for arch in ("x86", "arm"):
        for name in SOURCES:
            checks.append((f"prepare {name} for {arch}", lambda name=name, arch=arch: prepare(name, arch)))
        checks.append((f"W=1 for {arch}", lambda arch=arch: other_compiler(arch)))
    for arch in ("arm64", "x86"):
        checks.append((f"selftests for {arch}", lambda arch=arch: selftests(arch)))
    checks.append(("allmodconfig", everything_configured))
    for base in (LINUX, BOTH, LTS):
        checks.append((f"every patch builds, {base.base}", lambda base=base: every_patch_builds(base)))
    return checks


def main(quick):
    os.chdir(TOP)
    checks = plan(quick)
    print(f"TAP version 13\n1..{len(checks)}", flush=True)
    failed = 0
    for number, (name, check) in enumerate(checks, 1):
        start = time.monotonic()
        try:
            check()
            print(f"ok {number} {name}")
        except (Failed, tree.TreeError) as error:
            failed += 1
            print("".join(f"# {line}\n" for line in str(error).splitlines()) + f"not ok {number} {name}")
        if time.monotonic() - start > 2:
            print(f"# {time.monotonic() - start:.0f} s")
        sys.stdout.flush()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
