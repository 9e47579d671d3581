"""The kernels, as a table: what they are built from, and what the virtual host needs to know about them.

    kernels.py NAME     prints the source of a kernel, or says which kernels there are
"""

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Kernel:
    what: str
    source: str  # "stock", the unpacked base, or "patched", build/tree/linux as it is
    fragments: tuple = ("base",)  # lab/kernel/*.config, over allnoconfig; the last word counts
    options: tuple = ()  # variables for make
    memory: str = "4G"  # of the guest; the host gives what is touched
    slow: bool = False  # several times slower than the others


KERNELS = {
    "stock": Kernel("mainline base, unpatched", "stock"),
    "patched": Kernel("with the series; the default", "patched"),
    "debug": Kernel(
        "patched, with lockdep, KASAN, UBSAN, kmemleak, fault injection, KUnit", "patched", ("base", "debug"),
        memory="2G",  # kmemleak looks at every page: half the memory, half the time
        slow=True,
    ),
}  # fmt: skip

if __name__ == "__main__":
    if sys.argv[1] not in KERNELS:
        sys.exit(f"there is no kernel '{sys.argv[1]}'; there are:\n" + "".join(f"  {name}: {kernel.what}\n" for name, kernel in KERNELS.items()))
    print(KERNELS[sys.argv[1]].source)
