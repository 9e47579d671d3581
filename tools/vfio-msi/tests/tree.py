#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Make the sysfs tree of a machine out of a description of it, for vfio-msi --sysfs; or describe this machine.

    tree.py FILE DIR    makes DIR, as far as vfio-msi looks at it
    tree.py             prints the description of this machine; as root with the MSI capabilities

A description has lines; # begins a comment:

    iommu NAME [DRIVER]
    group NUMBER [TYPE]
    region START LAST TYPE                        of the group above
    device NAME VENDOR:DEVICE [WORD...]           in the group above; without a group: in none

WORD is driver=NAME, iommu=NAME, bridge, msi32, msi64, msix, or short: its config is cut off as for those who are not root.
"""

import os
import re
import struct
import sys


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data if isinstance(data, bytes) else data.encode())


def link(path, target):
    """A relative one, as sysfs has them."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.symlink(os.path.relpath(target, os.path.dirname(path)), path)


def config(words):
    """Of a PCI device: the header, and the MSI capabilities."""
    data = bytearray(256)
    capabilities = [(0x05, 0x80 if "msi64" in words else 0)] if words & {"msi32", "msi64"} else []
    capabilities += [(0x11, 0)] if "msix" in words else []
    data[0x0E] = 1 if "bridge" in words else 0
    # Capabilities come behind the header, the power management's, which every device has, first.
    at = 0x34
    struct.pack_into("<H", data, 0x06, 0x10)
    for number, (kind, flags) in enumerate([(0x01, 0), *capabilities]):
        where = 0x40 + 0x10 * number
        data[at] = where
        data[where] = kind
        struct.pack_into("<H", data, where + 2, flags)
        at = where + 1
    return bytes(data[:64] if "short" in words else data)


def make(lines, top):
    group = ""
    os.makedirs(f"{top}/kernel/iommu_groups")
    os.makedirs(f"{top}/bus/pci/devices")
    for line in lines:
        words = line.split("#")[0].split()
        if not words:
            continue
        what, *rest = words
        if what == "iommu":
            path = f"{top}/devices/iommus/{rest[0]}"
            os.makedirs(f"{path}/devices")
            if rest[1:]:
                os.makedirs(f"{top}/devices/platform/{rest[0]}")
                link(f"{path}/device", f"{top}/devices/platform/{rest[0]}")
                os.makedirs(f"{top}/drivers/{rest[1]}", exist_ok=True)
                link(f"{top}/devices/platform/{rest[0]}/driver", f"{top}/drivers/{rest[1]}")
            link(f"{top}/class/iommu/{rest[0]}", path)
        elif what == "group":
            group = f"{top}/kernel/iommu_groups/{rest[0]}"
            os.makedirs(f"{group}/devices")
            write(f"{group}/type", (rest[1] if rest[1:] else "DMA") + "\n")
            write(f"{group}/reserved_regions", "")
        elif what == "region":
            with open(f"{group}/reserved_regions", "a", encoding="utf-8") as file:
                file.write(f"0x{int(rest[0], 16):016x} 0x{int(rest[1], 16):016x} {rest[2]}\n")
        elif what == "device":
            name, (vendor, device), options = rest[0], rest[1].split(":"), set(rest[2:])
            path = f"{top}/devices/pci/{name}"
            write(f"{path}/vendor", f"0x{vendor}\n")
            write(f"{path}/device", f"0x{device}\n")
            write(f"{path}/config", config(options))
            link(f"{path}/subsystem", f"{top}/bus/pci")
            link(f"{top}/bus/pci/devices/{name}", path)
            for option in options:
                if match := re.fullmatch(r"driver=(.+)", option):
                    os.makedirs(f"{top}/bus/pci/drivers/{match[1]}", exist_ok=True)
                    link(f"{path}/driver", f"{top}/bus/pci/drivers/{match[1]}")
                elif match := re.fullmatch(r"iommu=(.+)", option):
                    link(f"{path}/iommu", f"{top}/devices/iommus/{match[1]}")
                    link(f"{top}/devices/iommus/{match[1]}/devices/{name}", path)
                elif option not in ("bridge", "msi32", "msi64", "msix", "short"):
                    sys.exit(f"tree.py: {option}: no such word")
            if group:
                link(f"{path}/iommu_group", group)
                link(f"{group}/devices/{name}", path)
        else:
            sys.exit(f"tree.py: {line.strip()}: no such line")


def read(path, mode="r"):
    try:
        with open(path, mode) as file:
            return file.read()
    except OSError:
        return b"" if "b" in mode else ""


def name_of(path):
    return os.path.basename(os.readlink(path)) if os.path.islink(path) else ""


def words_of(path):
    yield from (f"{what}={name_of(f'{path}/{what}')}" for what in ("driver", "iommu") if name_of(f"{path}/{what}"))
    data = read(f"{path}/config", "rb")[:256]
    if len(data) < 256:
        yield "short"
    if len(data) > 0x0E and data[0x0E] & 0x7F:
        yield "bridge"
    at = data[0x34] if len(data) == 256 and data[0x06] & 0x10 else 0
    for _ in range(48):
        if not at or at > 252:
            break
        if data[at] == 0x05:
            yield "msi64" if data[at + 2] & 0x80 else "msi32"
        if data[at] == 0x11:
            yield "msix"
        at = data[at + 1] & ~3


def describe(top="/sys"):
    for name in sorted(os.listdir(f"{top}/class/iommu") if os.path.isdir(f"{top}/class/iommu") else ()):
        print("iommu", name, name_of(f"{top}/class/iommu/{name}/device/driver"))
    groups = f"{top}/kernel/iommu_groups"
    for group in sorted(os.listdir(groups) if os.path.isdir(groups) else (), key=int):
        print("\ngroup", group, read(f"{groups}/{group}/type").strip())
        for line in read(f"{groups}/{group}/reserved_regions").splitlines():
            print("region", line)
        for name in sorted(os.listdir(f"{groups}/{group}/devices")):
            path = f"{groups}/{group}/devices/{name}"
            if os.path.exists(f"{path}/vendor"):
                print("device", name, ":".join(read(f"{path}/{what}").strip()[2:] for what in ("vendor", "device")), *words_of(path))


if len(sys.argv) == 3:
    with open(sys.argv[1], encoding="utf-8") as description:
        make(description, sys.argv[2])
elif len(sys.argv) == 1:
    describe()
else:
    sys.exit(__doc__)
