# SPDX-License-Identifier: GPL-2.0-only
"""Static checks of the series and of this repository.

    run.py [--quick]      --quick leaves out what takes minutes: coccinelle, other architectures, the build of every patch

Prints TAP.  Called by lab/check in the tool root.  The checks are in the modules beside this one; planted.py shows that each
notices what it is for.
"""

import os
import sys
import time
from functools import partial

from lab.tree import tree
from tests.check import kernel, patches, repository
from tests.check.context import BOTH, LINUX, LTS, QEMU, SOURCES, TOP, Failed, touched, touched_by_series


def plan(quick):
    checks = [
        ("shellcheck", repository.shellcheck),
        ("python", repository.python),
        ("spelling", repository.spelling),
        ("no kernel source committed", repository.no_kernel_source),
        ("licences", repository.licences),
        ("links", repository.links),
        ("promises have tests", repository.promises_have_tests),
        ("the code of docs/vmm.md is that of docs/examples", repository.documented_code),
        ("pictures are what the demo draws", repository.pictures),
        ("maintainers", patches.maintainers),
        ("6.12 has the same interface", patches.same_interface),
        ("QEMU has the kernel's headers", patches.same_header),
        ("mutants apply", patches.mutants_apply),
    ]
    for base in (LINUX, BOTH) if quick else (LINUX, BOTH, LTS):
        checks.append((f"checkpatch {base.base}", partial(patches.checkpatch, base, base.patch_files())))
    checks += [
        ("checkpatch qemu", partial(patches.checkpatch_qemu, QEMU.patch_files())),
        ("Sphinx qemu", partial(kernel.documentation_qemu, [name for name in touched_by_series("A", QEMU) if name.endswith(".rst")])),
        ("Sphinx", partial(kernel.documentation, touched(".rst"))),
        ("kernel-doc", partial(kernel.kernel_doc, touched(".c", ".h"))),
        ("uapi header in C and C++", kernel.header),
    ]
    for name in SOURCES:
        checks.append((f"prepare {name}", partial(kernel.prepare, name, "arm64")))
    checks.append(("W=1 and sparse", partial(kernel.compiler_and_sparse, list(kernel.compiled()))))
    checks.append(("sizeof(struct vfio_dma) as on stock", kernel.size_of_vfio_dma))
    if quick:
        return checks
    checks.append(("coccinelle", kernel.coccinelle))
    for arch in ("x86", "arm"):
        for name in SOURCES:
            checks.append((f"prepare {name} for {arch}", partial(kernel.prepare, name, arch)))
        checks.append((f"W=1 for {arch}", partial(kernel.other_compiler, arch)))
    for arch in ("arm64", "x86"):
        checks.append((f"selftests for {arch}", partial(kernel.selftests, arch)))
    checks.append(("allmodconfig", kernel.everything_configured))
    for base in (LINUX, BOTH, LTS):
        checks.append((f"every patch builds, {base.base}", partial(patches.every_patch_builds, base)))
    return checks


def main(quick):
    os.chdir(TOP)
    checks = plan(quick)
    print(f"TAP version 13\n1..{len(checks)}", flush=True)
    failed = 0
    for number, (name, check) in enumerate(checks, 1):
        start = time.monotonic()
        try:
            check()
            print(f"ok {number} {name}")
        except (Failed, tree.TreeError) as error:
            failed += 1
            print("".join(f"# {line}\n" for line in str(error).splitlines()) + f"not ok {number} {name}")
        if time.monotonic() - start > 2:
            print(f"# {time.monotonic() - start:.0f} s")
        sys.stdout.flush()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
