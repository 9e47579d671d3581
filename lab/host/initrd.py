# SPDX-License-Identifier: GPL-2.0-only
"""The guest's initial (and only) root file system, as a cpio archive."""

import os
import stat
import subprocess
import tempfile

# How to get programs for an architecture, in the tool root: a compiler, and a static busybox.
PROGRAMS = {
    "arm64": ("aarch64-linux-gnu-gcc", "/usr/bin/busybox"),
    "x86": ("x86_64-linux-gnu-gcc", "/opt/unpacked/amd64/usr/bin/busybox"),
}
HERE = os.path.dirname(os.path.abspath(__file__))
INIT = os.path.join(HERE, "..", "guest", "init.c")
DIRECTORIES = ("bin", "dev", "etc", "lab", "mnt", "opt", "proc", "run", "sys", "tmp")
FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": b"root:x:0:\n",
}


def entry(name, mode, data=b"", device=(0, 0)):
    """One archive member; see Documentation/driver-api/early-userspace/buffer-format.rst."""
    encoded = name.encode() + b"\0"
    header = b"070701" + b"".join(
        b"%08X" % value
        for value in (0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
    )
    return pad(header + encoded) + pad(data)


def pad(data):
    return data + bytes(-len(data) % 4)


def archive(files):
    """An archive of regular files; the kernel unpacks several in a row."""
    return b"".join(entry(name, stat.S_IFREG | 0o644, data) for name, data in files.items()) + entry("TRAILER!!!", 0)


def build(path, arch):
    """Make the part that is the same for every run of an architecture, unless it is up to date."""
    compiler, shell = PROGRAMS[arch]
    inputs = (INIT, shell, __file__)
    if os.path.exists(path) and os.path.getmtime(path) > max(map(os.path.getmtime, inputs)):
        return
    directory = os.path.dirname(path)
    os.makedirs(directory, exist_ok=True)
    # Two runs may do this at once: each has its own files, and either result is right.
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        program, partial = os.path.join(scratch, "init"), os.path.join(scratch, "initrd")
        subprocess.run(
            [compiler, "-Wall", "-Werror", "-O2", "-static", "-s", "-o", program, INIT],
            check=True,
        )
        with open(program, "rb") as init, open(shell, "rb") as busybox, open(partial, "wb") as out:
            for name in DIRECTORIES:
                out.write(entry(name, stat.S_IFDIR | 0o755))
            # init's stdout and stderr; the kernel opens it before devtmpfs is mounted.
            out.write(entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)))
            out.write(entry("init", stat.S_IFREG | 0o755, init.read()))
            out.write(entry("bin/busybox", stat.S_IFREG | 0o755, busybox.read()))
            out.write(archive(FILES))
        os.rename(partial, path)
