# SPDX-License-Identifier: GPL-2.0-only
"""What the checks share: the trees that they look at, running commands, and what may be said about a file.

LINUX, BOTH, QEMU, SOURCES, OUT and tracked are looked up here by everyone: planted.py puts others in their place.
"""

import collections
import os
import re
import subprocess

from lab.kernel.build import COMPILERS
from lab.tree import tree

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUT = "build/check"
LINUX, LTS, QEMU = tree.Tree("linux"), tree.Tree("linux-6.12"), tree.Tree("qemu")
BOTH = tree.Tree("linux-iommufd")  # the series that is onto LINUX's, and LINUX's: what it touches is looked at once, with both applied
SOURCES = {"stock": LINUX.pristine, "patched": BOTH.path}
JOBS = len(os.sched_getaffinity(0))


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


def tracked():
    return [name for name in tree.git(TOP, "ls-files", "-z").split("\0") if name and os.path.isfile(name)]


def interpreted_by(*words):
    for name in tracked():
        with open(name, "rb") as file:
            first = file.readline(100)
        if first.startswith(b"#!") and any(word in first.decode(errors="replace") for word in words):
            yield name
