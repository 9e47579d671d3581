# SPDX-License-Identifier: GPL-2.0-only
"""Build a kernel, or the selftests of VFIO and iommufd, of the tree at /src into /out.

    build.py kernel NAME            as in kernels.py
    build.py selftests NAME         of this kernel's source, for its architecture

Called by lab/build in the tool root.  What was built is noted in /out/lab-stamp last; when sources and configuration are
still the same nothing is done, otherwise make finds out what to do.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import subprocess
import sys

from lab.kernel.kernels import KERNELS, SOURCES
from lab.tree import tree

HERE = os.path.dirname(os.path.abspath(__file__))

STAMP = "/out/lab-stamp"

COMPILERS = {
    "arm64": ("ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-", "CC=ccache aarch64-linux-gnu-gcc"),
    "x86": ("ARCH=x86_64", "CROSS_COMPILE=x86_64-linux-gnu-", "CC=ccache x86_64-linux-gnu-gcc"),
    "arm": ("ARCH=arm", "CROSS_COMPILE=arm-linux-gnueabihf-", "CC=ccache arm-linux-gnueabihf-gcc"),
}

# The same for everyone, so that the same sources give the same kernel.
ENVIRONMENT = {"KBUILD_BUILD_TIMESTAMP": tree.EPOCH, "KBUILD_BUILD_USER": "lab", "KBUILD_BUILD_HOST": "lab", "KBUILD_BUILD_VERSION": "1"}
IOMMUFD_PROGRAMS = ("/out/iommufd", "/out/iommufd_fail_nth")
COMPILED = r"^  (CC|AS|LD|AR|HOSTCC|VDSO|GEN|HDRINST) "


class BuildError(Exception):
    pass


def make(arch, *args):
    jobs = len(os.sched_getaffinity(0))
    return ["make", f"-j{jobs}", "-C", "/src", "O=/out", *COMPILERS[arch], "HOSTCC=ccache gcc", *args]


def step(name, log, *command, compiled=COMPILED, environment=ENVIRONMENT):
    status = subprocess.run(
        ["lab/step", name, f"build/logs/{log}.log", "files", compiled, *command], env=dict(os.environ, **environment), check=False
    ).returncode
    if status:
        raise BuildError(f"{name} failed: see build/logs/{log}.log")


def sources(which):
    """What the tree at /src is, as one word."""
    base = tree.Tree(SOURCES[which].base)
    base.path = "/src"
    return base.state() if SOURCES[which].patched else base.source()[1]


def key_of(*parts):
    with open(__file__, encoding="utf-8") as file:
        return hashlib.sha256("\0".join((*parts, file.read())).encode()).hexdigest()


@contextlib.contextmanager
def unless_built(key, *results):
    """Yields whether there is something to do; notes that it was done unless it failed."""
    with open("/out/lab-lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(OSError), open(STAMP, encoding="utf-8") as file:
            if file.read() == key and all(map(os.path.exists, results)):
                yield False
                return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(STAMP)
        yield True
        tree.write(STAMP, key)


def options(text):
    """CONFIG_X -> value, as in a .config; the last word counts."""
    found = {}
    for line in text.splitlines():
        if match := re.match(r"(CONFIG_\w+)=(.*)", line):
            found[match[1]] = match[2]
        elif match := re.match(r"# (CONFIG_\w+) is not set", line):
            found[match[1]] = "n"
    return found


def configure(name, wanted):
    with open("/out/lab.config", "w", encoding="utf-8") as file:
        file.write("".join(f"{option}={value}\n" for option, value in options(wanted).items()))
    step(f"kernel {name}: configuring", f"config-{name}", *make(KERNELS[name].arch, "KCONFIG_ALLCONFIG=/out/lab.config", "allnoconfig"))
    with open("/out/.config", encoding="utf-8") as file:
        got = options(file.read())
    missing = [f"{option}={value}" for option, value in options(wanted).items() if got.get(option, "n") != value]
    if missing:
        raise BuildError(
            f"kernel {name}: these options of lab/kernel/{' and '.join(KERNELS[name].fragments)}.config did not end up in its .config:\n"
            + "".join(f"  {option}\n" for option in missing)
            + "An option they depend on is not set, or this base has no such option: correct the fragment."
        )


def kernel(name):
    made = KERNELS[name]
    wanted = ""
    for fragment in made.fragments:
        with open(f"{HERE}/{fragment}.config", encoding="utf-8") as file:
            wanted += file.read()
    patch = ""
    if made.patch:
        with open(made.patch, encoding="utf-8") as file:
            patch = file.read()
    with unless_built(key_of(sources(made.source), wanted, *made.options, patch), f"/out/{made.image}") as needed:
        if needed:
            # LOCALVERSION also keeps the tree's commit out of the version.
            version = f"LOCALVERSION=-{name}"
            configure(name, wanted)
            # Modules for tests/nested, if it has any; for tests/module what the kernel exports, Module.symvers.
            step(f"kernel {name}", f"kernel-{name}", *make(made.arch, version, *made.options, os.path.basename(made.image), "modules"))


def selftests(name):
    made = KERNELS[name]
    with unless_built(key_of(sources(made.source)), "/out/vfio_dma_mapping_test", *IOMMUFD_PROGRAMS) as needed:
        if needed:
            step(f"selftests {name}: headers", f"headers-{name}", *make(made.arch, "headers_install"))
            step(
                f"selftests {name}", f"selftests-{name}",
                *make(made.arch, "-C", "/src/tools/testing/selftests/vfio", "OUTPUT=/out", "KHDR_INCLUDES=-isystem /out/usr/include",
                      "EXTRA_CFLAGS=-O2 -static"),
            )
            # Their Makefile does not know which headers they are made of.
            for program in IOMMUFD_PROGRAMS:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(program)
            step(
                f"selftests {name}: iommufd", f"selftests-iommufd-{name}",
                *make(made.arch, "-C", "/src/tools/testing/selftests/iommu", "OUTPUT=/out", "KHDR_INCLUDES=-isystem /out/usr/include",
                      "LDFLAGS=-static"),
            )


if __name__ == "__main__":
    try:
        {"kernel": kernel, "selftests": selftests}[sys.argv[1]](sys.argv[2])
    except (BuildError, tree.TreeError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted; the next make goes on from here")
