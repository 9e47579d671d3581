"""The kernels, as a table: what they are built from, and what the virtual host needs to know about them.

    kernels.py NAME     prints the source of a kernel, the name of its selftests and its patch, if any, or says which kernels there are
"""

import sys
from dataclasses import dataclass


# The kernel that comes out, in its build directory.
IMAGES = {"arm64": "arch/arm64/boot/Image", "x86": "arch/x86/boot/bzImage"}


@dataclass(frozen=True)
class Kernel:
    what: str
    source: str  # "stock", the unpacked base, or "patched", build/tree/linux as it is
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
        """The kernel of the same source that its selftests are named after."""
        return self.source if self.arch == "arm64" else f"{self.arch}-{self.source}"


# The objects that the series changes, and those of them with data that it shares between threads.
TOUCHED = ("iommu", "dma-iommu", "virtio-iommu", "irq-gic-v3-its", "irq-gic-v2m", "irq-gic-v3-mbi", "vfio_iommu_type1")
SHARING = ("dma-iommu", "vfio_iommu_type1")

# gcov knows the lines that are left when early optimizations are done: "ret = -EINVAL; goto out;" and "return -ENOMEM;" are
# not, they end up as constants in the code of other lines. These leave them alone.
EVERY_LINE = (
    "-fno-early-inlining -fno-tree-ccp -fno-tree-copy-prop -fno-tree-forwprop -fno-tree-fre -fno-tree-vrp -fdisable-tree-sccopy1"
)

KERNELS = {
    "stock": Kernel("mainline base, unpatched", "stock", ("base", "nested")),
    "patched": Kernel("with the series; the default", "patched", ("base", "nested")),
    "debug": Kernel(
        "patched, with lockdep, KASAN, UBSAN, kmemleak, fault injection, KUnit", "patched", ("base", "debug"),
        memory="2G",  # kmemleak looks at every page: half the memory, half the time
        slow=True,
    ),
    "64k": Kernel("patched, with pages of 64 KiB", "patched", ("base", "64k")),
    "x86-stock": Kernel("mainline base, unpatched, for x86-64", "stock", ("base", "x86"), arch="x86"),
    "x86-patched": Kernel("with the series, for x86-64", "patched", ("base", "x86"), arch="x86"),
    "coverage": Kernel(
        "patched, with gcov of what the series changes, fault injection, KUnit", "patched", ("base", "coverage"),
        options=tuple(option for name in TOUCHED for option in (f"GCOV_PROFILE_{name}.o=y", f"CFLAGS_{name}.o={EVERY_LINE}")),
    ),
    # Nothing is profiled, but it is built of the same objects: ccache knows them.
    "mutants": Kernel(
        "patched, with mistakes to choose from, fault injection, KUnit", "patched", ("base", "coverage"), patch="tests/mutants/mutants.patch",
    ),
    # With nothing else instrumented the kernel is hardly slower, and nobody else's races are reported.
    "kcsan": Kernel(
        "patched, with KCSAN of what the series changes", "patched", ("base", "kcsan"),
        options=("KCSAN_SANITIZE=n", *(f"KCSAN_SANITIZE_{name}.o=y" for name in SHARING)),
    ),
}  # fmt: skip
DEFAULTS = {"arm64": "patched", "x86": "x86-patched"}

if __name__ == "__main__":
    if sys.argv[1] not in KERNELS:
        sys.exit(f"there is no kernel '{sys.argv[1]}'; there are:\n" + "".join(f"  {name}: {kernel.what}\n" for name, kernel in KERNELS.items()))
    print(KERNELS[sys.argv[1]].source, KERNELS[sys.argv[1]].selftests, KERNELS[sys.argv[1]].patch)
