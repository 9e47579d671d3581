# SPDX-License-Identifier: GPL-2.0-only
"""Build QEMU for arm64 of the tree at /src into /out, the program into /out/bin.

Called by lab/qemu/build in the tool root.  It has KVM, TCG for the boards that KVM has none of, with RAM from address 0 for
instance, and none of the features that need a library.  It is static, so that the virtual host needs nothing else to run it.
"""

import functools
import os
import subprocess
import sys

from lab.kernel import build
from lab.tree import tree

PROGRAM = "qemu-system-aarch64"
CONFIGURE = (
    "/src/configure --cross-prefix=aarch64-linux-gnu- --static --target-list=aarch64-softmmu --without-default-features "
    "--enable-kvm --enable-tcg --disable-debug-info --enable-fdt=system --disable-install-blobs"
).split() + ["--cc=ccache aarch64-linux-gnu-gcc"]
ENVIRONMENT = {"PKG_CONFIG": "pkg-config", "PKG_CONFIG_LIBDIR": "/usr/lib/aarch64-linux-gnu/pkgconfig"}


step = functools.partial(build.step, compiled=r"^\[[0-9]+/[0-9]+\] Compiling", environment=ENVIRONMENT)


def configured_as():
    try:
        with open("/out/lab-configured", encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def main():
    sources = tree.Tree("qemu")
    options = "\n".join([sources.source()[1], *CONFIGURE])
    with build.unless_built(build.key_of(sources.state(), options), f"/out/bin/{PROGRAM}") as needed:
        if not needed:
            return
        if configured_as() != options:
            # Of other sources, or made in another way: configure keeps to what it finds.
            old = [f"/out/{name}" for name in os.listdir("/out") if not name.startswith("lab-")]
            subprocess.run(["rm", "-rf", "--", *old], check=True)
            step("qemu: configuring", "config-qemu", "env", "--chdir=/out", *CONFIGURE)
            tree.write("/out/lab-configured", options)
        step("qemu", "qemu", "ninja", "-C", "/out", PROGRAM)
        os.makedirs("/out/bin", exist_ok=True)
        subprocess.run(["aarch64-linux-gnu-strip", "-o", f"/out/bin/{PROGRAM}", f"/out/{PROGRAM}"], check=True)


if __name__ == "__main__":
    try:
        main()
    except (build.BuildError, tree.TreeError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted; the next make goes on from here")
