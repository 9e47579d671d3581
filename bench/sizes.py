# SPDX-License-Identifier: GPL-2.0-only
"""The sizes of structures in a kernel that was built: prints NAME SIZE, a line each.

Called by bench.py in the tool root, with the kernel's sources at /src and its build at /out. The kernel has no debug
information, and must not get any, so the files in question are compiled once more, as make did and with -g, to somewhere else.
"""

import os
import re
import subprocess
import sys
import tempfile

STRUCTURES = {
    "drivers/vfio/vfio_iommu_type1": ("vfio_dma", "vfio_iommu", "vfio_domain"),
    "drivers/iommu/dma-iommu": ("iommu_dma_cookie", "iommu_dma_msi_cookie"),
    "drivers/iommu/iommufd/device": ("iommufd_group", "iommufd_hwpt_paging", "iommufd_ioas"),
    "drivers/iommu/iommufd/io_pagetable": ("iopt_reserved",),
}


def main():
    with tempfile.TemporaryDirectory() as scratch:
        for file, names in STRUCTURES.items():
            with open(f"/out/{os.path.dirname(file)}/.{os.path.basename(file)}.o.cmd", encoding="utf-8") as saved:
                command = re.match(rf"savedcmd_\S+ := (.* -o ){file}\.o( {re.escape('/src')}/{file}\.c)", saved.readline())
            if not command:
                sys.exit(f"sizes.py: /out/{os.path.dirname(file)}/.{os.path.basename(file)}.o.cmd does not say how make compiled {file}.c")
            result = f"{scratch}/{os.path.basename(file)}.o"
            compiler = re.sub(r"-Wp,-MMD,\S+", "", command[1]) + result + " -g" + command[2]
            subprocess.run(compiler, shell=True, cwd="/out", check=True)
            for name in names:
                # Having printed the structure it may still exit with an error about the file.
                said = subprocess.run(["pahole", "-F", "dwarf", "-C", name, result], capture_output=True, text=True, check=False).stdout
                size = re.search(r"/\* size: (\d+)", said)
                if not size:
                    sys.exit(f"sizes.py: pahole finds no struct {name} in {file}.c: correct STRUCTURES")
                print(name, size[1])


if __name__ == "__main__":
    main()
