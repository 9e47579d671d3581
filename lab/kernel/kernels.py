# SPDX-License-Identifier: GPL-2.0-only
"""The kernels, as a table: what they are built from, and what the virtual host needs to know about them.

    kernels.py NAME     prints base and verb of a kernel's source (see tree.py), where that is, the name of its selftests and its
                        patch, if any; or says which kernels there are
"""

import sys
from dataclasses import dataclass

# The kernel that comes out, in its build directory.
IMAGES = {"arm64": "arch/arm64/boot/Image", "x86": "arch/x86/boot/bzImage"}


@dataclass(frozen=True)
class Source:
    base: str  # of bases/
    patched: bool  # build/tree/BASE as it is, or the unpacked base
    selftests: str  # where the selftests for it come from

    @property
    def verb(self):
        """What tree.py does to make it."""
        return "make" if self.patched else "pristine"

    @property
    def path(self):
        return f"build/tree/{self.base}" + ("" if self.patched else ".base")


# All series for mainline are in one tree. 6.12 has no VFIO selftests: mainline's, which are programs, judge it.
SOURCES = {
    "stock": Source("linux", False, "stock"),
    "patched": Source("linux-iommufd", True, "patched"),
    "lts-stock": Source("linux-6.12", False, "stock"),
    "lts": Source("linux-6.12", True, "patched"),
}


@dataclass(frozen=True)
class Kernel:
    what: str
    source: str  # of SOURCES
    fragments: tuple = ("base",)  # lab/kernel/*.config, over allnoconfig; the last word counts
    options: tuple = ()  # variables for make
    arch: str = "arm64"
    patch: str = ""  # a diff that is applied to a copy of what it changes
    memory: str = "4G"  # of the guest; the host gives what is touched
    slow: bool = False  # several times slower than the others

    @property
    def image(self):
        return IMAGES[self.arch]

    @property
    def selftests(self):
        """The first kernel of the source that its selftests come from; they are named after it."""
        name = SOURCES[self.source].selftests
        return name if self.arch == "arm64" else f"{self.arch}-{name}"


# The objects that the series change, and those of them with data that they share between threads. Make takes names without
# folders: another object of the same name is treated alike, which does no harm.
IOMMUFD = ("device", "driver", "io_pagetable", "ioas", "main", "vfio_compat")
TOUCHED = ("dma-iommu", "iommu", "irq-gic-v3-its", "irq-gic-v2m", "irq-gic-v3-mbi", "vfio_iommu_type1", *IOMMUFD)
SHARING = ("dma-iommu", "vfio_iommu_type1", *IOMMUFD)

# gcov knows the lines that are left when early optimizations are done: "ret = -EINVAL; goto out;" and "return -ENOMEM;" are
# not, they end up as constants in the code of other lines. These leave them alone.
EVERY_LINE = (
    "-fno-early-inlining -fno-tree-ccp -fno-tree-copy-prop -fno-tree-forwprop -fno-tree-fre -fno-tree-vrp -fdisable-tree-sccopy1"
)

KERNELS = {
    "stock": Kernel("mainline base, unpatched", "stock", ("base", "nested")),
    "patched": Kernel("with the series; the default", "patched", ("base", "nested")),
    "compat-stock": Kernel("stock, with iommufd in the place of type1", "stock", ("base", "nested", "compat", "mock")),
    "compat": Kernel("patched, with iommufd in the place of type1", "patched", ("base", "nested", "compat", "mock")),
    "debug": Kernel(
        "patched, with lockdep, KASAN, UBSAN, kmemleak, fault injection, KUnit", "patched", ("base", "debug", "mock"),
        memory="2G",  # kmemleak looks at every page: half the memory, half the time
        slow=True,
    ),
    "64k": Kernel("patched, with pages of 64 KiB", "patched", ("base", "64k")),
    "x86-stock": Kernel("mainline base, unpatched, for x86-64", "stock", ("base", "x86"), arch="x86"),
    "x86-patched": Kernel("with the series, for x86-64", "patched", ("base", "x86"), arch="x86"),
    "coverage": Kernel(
        "patched, with gcov of what the series changes, fault injection, KUnit", "patched", ("base", "coverage", "mock"),
        options=tuple(option for name in TOUCHED for option in (f"GCOV_PROFILE_{name}.o=y", f"CFLAGS_{name}.o={EVERY_LINE}")),
    ),
    # Nothing is profiled, but it is built of the same objects: ccache knows them.
    "mutants": Kernel(
        "patched, with mistakes to choose from, fault injection, KUnit", "patched", ("base", "coverage", "mock"), patch="tests/mutants/mutants.patch",
    ),
    "lts-stock": Kernel("6.12, unpatched", "lts-stock"),
    "lts": Kernel("6.12 with the backport", "lts"),
    "lts-debug": Kernel("lts, with all that debug has, except mock devices", "lts", ("base", "debug", "lts-debug"), memory="2G", slow=True),
    # With nothing else instrumented the kernel is hardly slower, and nobody else's races are reported.
    "kcsan": Kernel(
        "patched, with KCSAN of what the series changes", "patched", ("base", "kcsan"),
        options=("KCSAN_SANITIZE=n", *(f"KCSAN_SANITIZE_{name}.o=y" for name in SHARING)),
    ),
}
DEFAULTS = {"arm64": "patched", "x86": "x86-patched"}

if __name__ == "__main__":
    if sys.argv[1] not in KERNELS:
        sys.exit(f"there is no kernel '{sys.argv[1]}'; there are:\n" + "".join(f"  {name}: {kernel.what}\n" for name, kernel in KERNELS.items()))
    asked = KERNELS[sys.argv[1]]
    origin = SOURCES[asked.source]
    print(origin.base, origin.verb, origin.path, asked.selftests, asked.patch)
