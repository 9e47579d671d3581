"""Static checks of the series and of this repository.

    check.py [--quick]      --quick leaves out coccinelle and the build of every patch

Prints TAP.  Called by lab/check in the tool root.  What stock's files are warned about is not held against the series: the
warnings of every file it touches are compared with those of the same file in stock.
"""

import collections
import contextlib
import os
import re
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "lab", "tree"))
import tree  # noqa: E402

LINUX = tree.Tree("linux")
SOURCES = {"stock": LINUX.pristine, "patched": LINUX.path}
JOBS = str(len(os.sched_getaffinity(0)))


class Failed(Exception):
    pass


def call(*command, cwd=None):
    result = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    return result.returncode, result.stdout


def make(source, out, *args):
    """make in a kernel tree, as lab/kernel/build.py does it."""
    return call(
        "lab/in-root", "--bind", source, "/src", "--bind", out, "/out", "make", f"-j{JOBS}", "-C", "/src", "O=/out", "ARCH=arm64",
        "CROSS_COMPILE=aarch64-linux-gnu-", "CC=ccache aarch64-linux-gnu-gcc", "HOSTCC=ccache gcc", "KCFLAGS=-g", "LOCALVERSION=", *args,
    )  # fmt: skip


def touched_by_series():
    return tree.git(LINUX.path, "diff", "--name-only", "--diff-filter=d", "base").split()


def touched(*suffixes):
    return [name for name in touched_by_series() if name.endswith(suffixes) and not name.startswith("tools/")]


def compiled():
    """Of the C files touched, those with an object; the others are included in these."""
    for name in touched(".c"):
        with open(f"{LINUX.path}/{os.path.dirname(name)}/Makefile", encoding="utf-8") as file:
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


def configure(name):
    out = f"build/check/{name}"
    os.makedirs(out, exist_ok=True)
    with open("lab/kernel/base.config", encoding="utf-8") as base, open("lab/kernel/debug.config", encoding="utf-8") as debug:
        # With the KUnit tests, but without what changes the size of structures.
        tree.write(f"{out}/lab.config", base.read() + "".join(line for line in debug if "KUNIT" in line))
    for target in (("KCONFIG_ALLCONFIG=/out/lab.config", "allnoconfig"), ("prepare",)):
        status, output = make(SOURCES[name], out, *target)
        if status:
            raise Failed(output[-2000:])


def compile_both(file, *options):
    """What is said about a file in stock (nothing, when it has no such file) and in patched."""
    said = []
    target = file[:-2] + ".o"
    for name, source in SOURCES.items():
        if not os.path.exists(f"{source}/{file}"):
            said.append("")
            continue
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"build/check/{name}/{target}")
        status, output = make(source, f"build/check/{name}", *options, target)
        if status:
            raise Failed(output[-2000:])
        said.append(output)
    return said


# The checks


def checkpatch(patch):
    # Author and sign-off are put in by `make series`. FILE_PATH_CHANGES asks whether MAINTAINERS covers a new file; it does.
    # COMPLEX_MACRO is left out for the selftests alone: FIXTURE_VARIANT_ADD() defines things, as in all of the VFIO tests,
    # and a definition cannot be put in parentheses.
    ignored = "FILE_PATH_CHANGES" + (",COMPLEX_MACRO" if "-vfio-selftests-" in patch else "")
    status, output = call(
        "perl", "scripts/checkpatch.pl", "--strict", "--codespell", "--codespellfile=/usr/lib/python3/dist-packages/codespell_lib/data/dictionary.txt",
        "--no-signoff", f"--ignore={ignored}", "--no-summary", "--terse", "--show-types", os.path.abspath(patch), cwd=LINUX.path,
    )  # fmt: skip
    if status:
        raise Failed(output)


def compiler_and_sparse(file):
    no_new_warnings(*compile_both(file, "W=1", "C=2"))


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
        output = call("pahole", "-F", "dwarf", "-C", "vfio_dma", f"build/check/{name}/drivers/vfio/vfio_iommu_type1.o")[1]
        match = re.search(r"/\* size: (\d+)", output)
        if not match:
            raise Failed(f"pahole does not know the size in {name}:\n{output}")
        sizes[name] = int(match[1])
    if sizes["stock"] != sizes["patched"]:
        raise Failed(f"{sizes['stock']} bytes on stock, {sizes['patched']} on patched")


def no_kernel_source():
    """Only diffs may hold kernel code: nothing in the repository is a file, or the better part of one, of the kernel."""
    for name in tracked():
        if os.path.getsize(name) and os.path.exists(f"{LINUX.pristine}/{name}"):
            with open(name, "rb") as ours, open(f"{LINUX.pristine}/{name}", "rb") as theirs:
                if ours.read() == theirs.read():
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
    status, output = call("shellcheck", "-x", *interpreted_by("/bin/bash", "/bin/sh"))
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
    status, output = call("codespell", "-L", "fro", *(name for name in tracked() if not name.startswith("patches/")))
    if status:
        raise Failed(output)


def promises_have_tests():
    """The tests that README names for each promise exist, and so do the patches."""
    with open("README.md", encoding="utf-8") as file:
        table = file.read().split("## What is promised", 1)[1].split("\n## ", 1)[0]
    existing = set()
    for name in [f"{LINUX.path}/{name}" for name in touched_by_series()] + tracked():
        if re.search(r"_test\.c$|kunit\.c$", name):
            with open(name, encoding="utf-8") as file:
                existing |= set(re.findall(r"(?:TEST_F(?:_TIMEOUT)?\(\w+, |KUNIT_CASE\()(\w+)", file.read()))
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| ") and not line.startswith("| ---")][1:]
    number = len(LINUX.patch_files())
    wrong = []
    for promise, patches, tests in rows:
        if not tests.strip():
            wrong.append(f"no test: {promise.strip()}")
        for patch in re.findall(r"\d+", patches):
            if not 1 <= int(patch) <= number:
                wrong.append(f"no patch {patch}: {promise.strip()}")
        for name in re.findall(r"`([a-z]\w*\*?)`", tests):
            if not any(re.fullmatch(name.replace("*", ".*"), test) for test in existing):
                wrong.append(f"no test has the name {name}: {promise.strip()}")
    if wrong or not rows:
        raise Failed("\n".join(wrong) or "README has no table of promises")


def coccinelle(file):
    no_new_warnings(*compile_both(file, "C=2", "CHECK=scripts/coccicheck", "MODE=report"))


def every_patch_builds():
    """In a checkout of its own, so that nobody's tree is disturbed."""
    source, out = "build/check/each", "build/check/each.out"
    if not os.path.isdir(source):
        tree.remove(f"{source}.tmp")
        tree.git(TOP, "clone", "-q", "--shared", "--no-checkout", LINUX.path, f"{source}.tmp")
        os.rename(f"{source}.tmp", source)
    tree.git(source, "fetch", "-q", "origin")
    head = tree.git(LINUX.path, "rev-parse", "HEAD").strip()
    commits = tree.git(LINUX.path, "rev-list", "--reverse", "base..HEAD").split()
    os.makedirs(out, exist_ok=True)
    with open("lab/kernel/base.config", encoding="utf-8") as file:
        tree.write(f"{out}/lab.config", file.read())
    for commit in commits:
        tree.git(source, "checkout", "-q", "-f", "--detach", commit)
        subject = tree.git(source, "log", "-1", "--format=%s").strip()
        for target in (("KCONFIG_ALLCONFIG=/out/lab.config", "allnoconfig"), ("W=e", "Image")):
            status, output = make(source, out, *target)
            if status:
                raise Failed(f"{subject}\n{output[-2000:]}")
    assert not commits or commits[-1] == head


def plan(quick):
    checks = [("shellcheck", shellcheck), ("python", python), ("spelling", spelling), ("no kernel source committed", no_kernel_source)]
    checks.append(("promises have tests", promises_have_tests))
    for patch in LINUX.patch_files():
        checks.append((f"checkpatch {os.path.basename(patch)}", lambda patch=patch: checkpatch(patch)))
    for file in touched(".c", ".h"):
        checks.append((f"kernel-doc {file}", lambda file=file: kernel_doc(file)))
    for name in SOURCES:
        checks.append((f"prepare {name}", lambda name=name: configure(name)))
    for file in compiled():
        checks.append((f"W=1 and sparse {file}", lambda file=file: compiler_and_sparse(file)))
    checks.append(("sizeof(struct vfio_dma) as on stock", size_of_vfio_dma))
    if not quick:
        for file in compiled():
            checks.append((f"coccinelle {file}", lambda file=file: coccinelle(file)))
        checks.append(("every patch builds", every_patch_builds))
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
