# SPDX-License-Identifier: GPL-2.0-only
"""The root file system of a guest in the guest: an init, and igb with the modules that it needs.

    initrd.py INIT IMAGE INITRD     IMAGE is the kernel's, in its build directory
"""

import os
import subprocess
import sys

from lab.host import initrd

HERE = os.path.dirname(os.path.abspath(__file__))

DIRECTORIES = ("dev", "modules", "proc", "sys")


def modules(wanted, paths):
    """A module and, before it, those that it needs, some perhaps more than once."""
    depends = subprocess.run(["modinfo", "-F", "depends", paths[wanted]], capture_output=True, text=True, check=True).stdout
    for name in filter(None, depends.strip().split(",")):
        yield from modules(name.replace("-", "_"), paths)
    yield paths[wanted]


def main(init, image, out):
    build = image.removesuffix("/arch/arm64/boot/Image")
    with open(f"{build}/modules.order", encoding="utf-8") as file:
        # It lists objects, and names files with "-" whose modules have "_".
        paths = {os.path.basename(line.strip())[:-2].replace("-", "_"): f"{build}/{line.strip()[:-2]}.ko" for line in file}
    data = b"".join(initrd.entry(name, 0o040755) for name in DIRECTORIES)
    data += initrd.entry("dev/console", 0o020600, device=(5, 1))
    for name, mode, path in (
        ("init", 0o100755, init),
        *((f"modules/{number}.ko", 0o100644, path) for number, path in enumerate(dict.fromkeys(modules("igb", paths)))),
    ):
        with open(path, "rb") as file:
            data += initrd.entry(name, mode, file.read())
    with open(out, "wb") as file:
        file.write(data + initrd.archive({}))


if __name__ == "__main__":
    main(*sys.argv[1:])
