# SPDX-License-Identifier: GPL-2.0-only
"""The suites: what `make test`, `make campaign` and `make lts` run, and what has to be built for it.

    table()             all of them
    Suite.builds        the commands that make what a suite needs, from the top of the repository

Imported by run.py, which runs them.
"""

import dataclasses
import fnmatch
import functools
import glob
import os
import re
import shlex
import sys

from lab.kernel.kernels import KERNELS
from lab.tree import tree
from tests import reasons

OUT = "build/test"
TEST, LONG, LTS = "", "--long", "--lts"  # the lists of suites: what make test, make campaign and make lts run

# Under emulation these say nothing, and take long to say it.
LEFT_OUT = {"vfio_pci_device_init_perf_test": "measures how long device setup takes, which means nothing under emulation"}
# In this order.
BUILDS = ("lab/build kernel", "lab/build selftests", "lab/in-root", "lab/qemu/build", "tests/tools", "tests/module", "tests/model", "tests/nested")

# What the scripts of tests/lab and tests/tree, and the checks, need; the lab's the default kernel if they are not listed.
TREES = tuple(f"lab/in-root python3 lab/tree/tree.py make {base}" for base in ("linux", "linux-iommufd", "qemu"))


def booting(*kernels):
    """What it takes to boot these."""
    return tuple(command for name in kernels for command in (f"lab/build kernel {name}", f"lab/build selftests {KERNELS[name].selftests}"))


NEEDS = {
    "lab/runner": (),
    "lab/complaints": booting("patched", "debug"),
    "lab/demo": booting("stock", "patched"),
    "lab/machine intel-iommu": booting("x86-patched"),
    "tree/mails.py": TREES,
    "tree/bases.py": (),
    "tree/trees.py": TREES,
}

# What a guest prints when a suite ended.
ENDED = "# tests/run: ended"

# Kernel arguments that a test needs, or that spare it what it is not about: this one maps 1 GiB of shared memory for each of its
# tests, which takes four fifths of the processor's time if it has pages of 4 KiB.
ARGUMENTS = {"vfio_pci_sriov_uapi_test": "vfio_pci.enable_sriov=1", "vfio_pci_driver_test": "transparent_hugepage_shmem=always"}

# iommufd's selftests.
IOMMUFD = ("iommufd", "iommufd_fail_nth")

# What takes minutes is begun first, in this order, so that nothing of it is the last to end, alone. On slow kernels it has a boot of
# its own beside the rest, if it takes many.
LONGEST = (
    "fail_nth_test", "/model many", "vfio_pci_driver_test", "iova_test", "race_test", "/nested", "window_test", "untranslated_test",
    "domains_test", "/nested iommufd", "lab/complaints", "lab/machine", "tree/mails.py", "check", "tools/machines",
)
ALONE = ("fail_nth_test", "/model many")

# Where 6.12 differs from mainline, and why; and what fails on mainline, and why.
DIFFERENCES = "tests/lts-differences"
KNOWN = "tests/stock-failures"


@dataclasses.dataclass
class Suite:
    name: str
    command: list
    kernel: str = ""  # empty: runs here, not in the guest
    append: str = ""  # kernel arguments
    share: str = "build/test"  # the guest's /mnt
    compare: str = ""  # the suite that ran the same program on another kernel
    different: tuple = ()  # in what it may differ from that: Difference
    known: tuple = ()  # what fails, with or without the series: Difference
    machine: str = ""  # empty: the kernel's default
    which: str = TEST  # of the lists it is on
    needs: tuple = ()  # what one that runs here has to have built: commands

    @property
    def builds(self):
        """Commands, each of them after what it needs when they are in the order of BUILDS."""
        if not self.kernel:
            return self.needs
        found = [*booting(self.kernel)]
        folder, _, name = self.share.removeprefix("build/").partition("/")
        if folder == "selftests":
            found.append(f"lab/build selftests {name}")
        elif folder in ("module", "model", "nested"):
            found += ["lab/build selftests patched", f"tests/{folder}/build {name}".strip()]
        if folder == "nested":
            found.append("lab/qemu/build")
        return tuple(found)

    @property
    def alone(self):
        """Whether it has a boot of its own, or a process here. A boot is worth sparing where it takes longer than seconds; what takes
        minutes runs beside the rest."""
        return not self.slow or self.name.endswith(ALONE)

    @property
    def rank(self):
        """Its place in LONGEST, or behind."""
        return next((place for place, end in enumerate(LONGEST) if self.name.endswith(end)), len(LONGEST))

    @property
    def slow(self):
        return bool(self.kernel) and KERNELS[self.kernel].slow

    @property
    def place(self):
        """Suites with the same one can be run in one boot."""
        return self.kernel, self.machine, self.append


def boot(suites):
    """The command that runs some with the same place in one boot, where each is followed by a line with its status and with the
    seconds that the guest has been up."""
    first = suites[0]
    share = os.path.commonpath([suite.share for suite in suites])
    # Not every program that dies ends its last line.
    ended = f"printf '\\n{ENDED} %d %s\\n' $? $(cut -d' ' -f1 /proc/uptime)\n"
    script = ended
    for suite in suites:
        script += f"( cd {shlex.quote(os.path.join('/mnt', os.path.relpath(suite.share, share)))} && {shlex.join(suite.command)} )\n{ended}"
    # Ten times what it takes on an idle machine; some kernels, with lockdep and KASAN, are several times slower.
    limit = (1800 if first.slow else 900) * len(suites)
    machine = ["--machine", first.machine] if first.machine else []
    options = ["--kernel", first.kernel, *machine, "--append", first.append, "--share", share, "--timeout", str(limit)]
    return ["lab/run", *options, "--", "sh", "-c", f"{script}exit 0"]


def programs(tree, pattern):
    return sorted(os.path.basename(path) for path in glob.glob(f"build/selftests/{tree}/{pattern}"))


def upstream(before, after, which=TEST):
    """Upstream's tests judge two kernels: the same programs, built from stock. They find their device in $VFIO_SELFTESTS_BDF."""
    for program in programs(before, "*_test"):
        if program in LEFT_OUT:
            continue
        for kernel, compare in ((before, ""), (after, f"{before}/{program}")):
            append = ARGUMENTS.get(program, "")
            yield Suite(f"{kernel}/{program}", [f"./{program}"], kernel, append, f"build/selftests/{before}", compare, which=which)


@functools.cache
def own(program):
    """The options that leave of one of iommufd's selftests the fixtures that the series adds tests to."""
    found = set()
    for patch in tree.Tree("linux-iommufd").patch_files():
        for changed, text in tree.diffs(patch):
            if changed.endswith(f"/selftests/iommu/{program}.c"):
                found.update(re.findall(r"^\+TEST_\w+\((\w+),", text, re.MULTILINE))
    return [word for fixture in sorted(found) for word in ("-f", fixture)]


def iommufd(kernel, before=""):
    """Those of iommufd, which make their devices themselves: the kernel's own or, side by side, those of the one before."""
    for program in IOMMUFD:
        known = about(KNOWN, program)
        if before:
            share = f"build/selftests/{KERNELS[before].selftests}"
            yield Suite(f"{kernel}/{program} of {before}", [f"./{program}"], kernel, share=share, compare=f"{before}/{program}", known=known)
        elif KERNELS[kernel].source == "stock":
            yield Suite(f"{kernel}/{program}", [program], kernel, known=known)
        else:
            # Those of the series alone: the others are stock's, which judge this kernel, too. And where allocations fail, on debug,
            # iommu_mock_device_add(), of stock as well, leaves one behind.
            yield Suite(f"{kernel}/{program}", [program, *own(program)], kernel)


def window(kernel, machine="", which=TEST, devices="$VFIO_IGB_BDFS", tests=""):
    """The window of an IOAS, with real devices."""
    command = f"exec vfio_iommufd_msi_window_test {tests}{devices}"
    return Suite(f"{machine or kernel}/vfio_iommufd_msi_window_test", ["sh", "-c", command], kernel, machine=machine, which=which)


def ours(kernel, machine="", which=TEST, only=""):
    """Ours want all the igbs, and one of them something behind the same SMMU as an igb. fail_nth has to be asked for: it takes a
    kernel with fault injection."""
    for program in programs(KERNELS[kernel].selftests, f"vfio_reserved_msi_{only or '*'}_test"):
        if "fail_nth" in program and not only:
            continue
        more = " $VFIO_EDU_BDF" if "domains" in program else ""
        # To iommufd, v1 is v2 with small pages; where /dev/vfio/vfio is iommufd's, both of type1's modes are those of its containers.
        # These take minutes on slow kernels, and are for the long list there; other machines change nothing about them. Those of
        # groups without translated MSIs are on the long list, too, on compat.
        less = "-V iommufd_compat_type1 "
        elsewhere = KERNELS[kernel].slow or kernel == "compat" or machine
        if "fail_nth" in program:
            less = "-V iommufd_1 -V vfio_type1v2_iommu_2 "  # three domains have one and two among them; make coverage runs all
        elif elsewhere and "race" not in program and "untranslated" not in program or "untranslated" in program and which == TEST:
            less += "-V iommufd_compat_type1v2 "
        command = f"exec {program} {less}$VFIO_IGB_BDFS{more}"
        yield Suite(f"{machine or kernel}/{program}", ["sh", "-c", command], kernel, machine=machine, which=which)


def interrupts(kernel, machine):
    """Of the program that looks at windows from all sides, the tests in which MSIs arrive."""
    tests = ("geometry", "geometry_doorbells", "identity_mapped_ram", "second_window_works", "one_granule", "at_iova_0", "above_4g", "busy", "release_busy")
    words = " ".join(f"-t {test}" for test in tests)
    command = f"exec vfio_reserved_msi_iova_test -V iommufd_compat_type1 -V iommufd_compat_type1v2 {words} $VFIO_IGB_BDFS"
    return Suite(f"{machine}/interrupts", ["sh", "-c", command], kernel, machine=machine)


@dataclasses.dataclass(frozen=True)
class Difference:
    program: str
    case: str  # with * and ?
    outcome: str  # "failed", "skipped" or "missing"
    reason: str

    def fits(self, name, result):
        outcome = "failed" if name in result.excused else result.cases.get(name, "missing")
        return self.outcome == outcome and fnmatch.fnmatchcase(name, self.case)


@functools.cache
def listed(path):
    """The table of DIFFERENCES, or that of KNOWN."""
    try:
        return [Difference(*what, why) for what, why in reasons.listed(path, r"(\w+) (\S+): (failed|skipped|missing)")]
    except reasons.Wrong as error:
        sys.exit(str(error))


def about(path, program):
    """What it says of a program."""
    return tuple(one for one in listed(path) if one.program == program)


def lts():
    """Mainline's programs judge 6.12 too, and find the same, but for what is listed."""
    for suite in [*upstream("stock", "patched"), *ours("patched")]:
        kernel, program = suite.name.split("/")
        if kernel == "patched":
            different = about(DIFFERENCES, program)
            yield dataclasses.replace(suite, name=f"lts/{program}", kernel="lts", compare=suite.name, different=different, which=LTS)
    for suite in (pinning, regions):
        yield dataclasses.replace(suite("lts"), compare=suite("patched").name, which=LTS)
    yield model("lts", 60, which=LTS)
    # Part of make test, which has no time to unpack 6.12.
    needs = (*TREES, "lab/in-root python3 lab/tree/tree.py make linux-6.12")
    yield from (Suite(f"lts/{script}", [f"tests/{script}"], which=LTS, needs=needs) for script in ("tree/mails.py", "tree/trees.py"))


def with_module(kernel, module, program, devices):
    """A program of tests/module, with the module that is for it."""
    command = f"insmod {module}.ko && ./{program} {devices}; status=$?; rmmod {module} && exit $status"
    return Suite(f"{kernel}/module/{program}", ["sh", "-c", command], kernel, share=f"build/module/{kernel}")


def pinning(kernel):
    """A device that pins pages. Not on debug: telling such a device about an unmap takes locks of type1 in both orders, on stock
    as well, and lockdep says so."""
    return with_module(kernel, "vfio_pin", "pin_test", "$VFIO_IGB_BDFS")


def regions(kernel):
    """Devices whose reserved regions differ; the first of them shares its IOMMU with the second. On slow kernels, where failing
    allocations are what takes long, on one backend."""
    less = "-V vfio_type1_iommu " if KERNELS[kernel].slow else ""
    return with_module(kernel, "iommu_resv", "resv_test", less + "$VFIO_VECTORS_BDF $VFIO_IGB_BDFS")


def model(kernel, seeds, first=1, machine="", which=TEST):
    """Random operations, and whether the model that tests/model has of a container expects what the kernel does."""
    command = f"exec ./model_test --first-seed {first} --seeds {seeds} $VFIO_IGB_BDFS $VFIO_EDU_BDF $VFIO_VECTORS_BDF"
    name = f"{machine or kernel}/model" + (" many" if which == LONG else "")
    return Suite(name, ["sh", "-c", command], kernel, machine=machine, share="build/model", which=which)


def tools():
    """vfio-msi, on recorded machines, and on virtual ones next to what their kernels say."""
    built = ("lab/build selftests patched", "tests/tools/build")
    yield Suite("tools/vfio-msi", ["tests/tools/vfio-msi"], needs=built)
    more = ("smmuv3/stock", "gicv2m/patched", "virtio-iommu/patched", "group/patched", "intel-iommu/x86-patched", "smmuv3/64k", "smmuv3/debug")
    here = ("smmuv3/patched", "smmuv3/compat", "reserved/stock", "reserved/patched", "no-iommu/patched")
    for name, which, pairs in (("machines", TEST, here), ("machines more", LONG, more)):
        kernels = {pair.partition("/")[2] for pair in pairs}
        yield Suite(f"tools/{name}", ["tests/tools/machines", *pairs], needs=(*built, *booting(*kernels)), which=which)


# In one of 13 runs on a busy machine a guest with an IOMMU of its own gets no MSI, although the host does, with any version of the
# tests: it is on the long list alone.
WITHOUT_VIRTIO_IOMMU = "-T virtio_iommu "


def nested(kernel, only="", words="", which=TEST):
    """A guest in the guest, with QEMU and with a VMM of our own."""
    name = f"{kernel}/nested" + (f" {only}" if only else "")
    return Suite(name, ["sh", "-c", f"exec ./host_test {words}$VFIO_IGB_BDFS"], kernel, share=f"build/nested/{kernel}", machine="nested", which=which)


def table():
    suites = []
    for script in sorted(glob.glob("tests/lab/*") + glob.glob("tests/tree/*")):
        if os.access(script, os.X_OK) and os.path.isfile(script):
            name = os.path.relpath(script, "tests")
            suites.append(Suite(name, [script], which=LONG if name == "lab/kvm" else TEST, needs=NEEDS.get(name, booting("patched"))))
    suites.append(Suite("check", ["lab/check", "--quick"], needs=TREES))
    suites += tools()
    suites += upstream("stock", "patched")
    suites += ours("patched")
    suites += [*iommufd("compat-stock"), *iommufd("compat", "compat-stock"), *iommufd("compat"), *iommufd("debug")]
    # Type1's programs, where /dev/vfio/vfio is iommufd's.
    for which, program in ((TEST, "iova"), (LONG, "domains"), (LONG, "race"), (LONG, "untranslated")):
        suites += ours("compat", which=which, only=program)
    # KASAN sees it when the first device of a group is followed after it was closed.
    suites += [window("patched"), window("debug", "group", devices="$VFIO_PAIR_BDFS", tests="-t group ")]
    suites += [window("debug", which=LONG), window("64k", which=LONG), window("x86-patched", which=LONG)]
    suites += [window("patched", machine, LONG) for machine in ("gicv2m", "virtio-iommu")]
    # Several domains are in fail_nth, race and the model, too.
    for which, program in ((TEST, "iova"), (TEST, "fail_nth"), (TEST, "race"), (LONG, "domains"), (LONG, "untranslated")):
        suites += ours("debug", which=which, only=program)
    command = "vfio_reserved_msi_iova_test -v iommufd_compat_type1v2 $VFIO_IGB_BDFS"
    suites.append(Suite("debug/iommufd containers", ["sh", "-c", f"exec {command}"], "debug", which=LONG))
    # Another interrupt controller: what there is to see of it.
    suites += [interrupts("patched", "gicv2m"), *ours("patched", "gicv2m", LONG, "iova"), *ours("patched", "gicv2m", LONG, "domains")]
    # Type1 cannot enable MSIs there, on stock neither: -EOPNOTSUPP of iommu_dma_prepare_msi() for MSIs that no IOMMU translates.
    suites += ours("patched", "virtio-iommu", LONG, "iova")
    # There is a reserved region there that is no default window.
    command = "exec vfio_reserved_msi_untranslated_test -t over_resv_region $VFIO_IGB_BDFS"
    suites.append(Suite("virtio-iommu/over_resv_region", ["sh", "-c", command], "patched", machine="virtio-iommu"))
    suites += [pinning("patched"), regions("patched"), regions("debug")]
    # Other seeds where they take longer, and many where there is time.
    suites += [model("patched", 20), model("debug", 5, first=1001)]
    suites += [model("patched", 150, first=2001, which=LONG), model("debug", 30, first=6001, which=LONG)]
    suites += [model("patched", 60, machine="gicv2m", which=LONG), model("64k", 60, which=LONG)]
    suites.append(Suite("check/planted", ["python3", "tests/check/planted.py"], which=LONG, needs=TREES))
    suites += lts()
    # In two guests, side by side.
    for kernel, only, words in (("stock", "", ""), ("patched", "", "-V iommufd "), ("patched", "iommufd", "-v iommufd ")):
        suites.append(nested(kernel, only, WITHOUT_VIRTIO_IOMMU + words))
    suites.append(nested("patched", "virtio-iommu", "-t virtio_iommu ", LONG))
    # Of QEMU's legacy backend, iommufd's container knows no VFIO_UPDATE_VADDR, which a live update wants; no dma_entry_limit; in other
    # words what is in the way; and no apertures before a device is opened, when QEMU has long chosen a place.
    less = "-T live_update -T live_transfer -T no_entry_left -T default_window -T second_container -V size_too_large -V above_4g "
    suites.append(nested("compat", words=WITHOUT_VIRTIO_IOMMU + less, which=LONG))
    suites += ours("64k", which=LONG)
    name = "lab/machine intel-iommu"
    suites.append(Suite(name, ["tests/lab/machine", "intel-iommu"], which=LONG, needs=NEEDS[name]))
    suites += upstream("x86-stock", "x86-patched", LONG)
    # That machine has one IOMMU.
    for program in ("iova", "untranslated"):
        suites += ours("x86-patched", which=LONG, only=program)
    # They ran while the kernel booted; what is indented once are the cases.
    kunit = ["sh", "-c", "sed -n 's/^    //p' /sys/kernel/debug/kunit/*/results"]
    suites.append(Suite("debug/kunit", kunit, "debug"))
    suites.append(Suite("lts-debug/kunit", kunit, "lts-debug", compare="debug/kunit", which=LTS))
    for program in ("iova", "domains", "fail_nth", "race"):
        name = f"vfio_reserved_msi_{program}_test"
        # What is listed is in iommufd's modes, which this one leaves out on slow kernels.
        different = () if program == "iova" else about(DIFFERENCES, name)
        suites += [dataclasses.replace(suite, compare=f"debug/{name}", different=different) for suite in ours("lts-debug", which=LTS, only=program)]
    # tests/run started it, outside of the tool root.
    if os.path.exists(f"{OUT}/outside.part"):
        wait = f"until [ -e {OUT}/outside.done ]; do sleep 1; done; cat {OUT}/outside.done; ! grep -q '^not ok' {OUT}/outside.done"
        suites.append(Suite("setup", ["timeout", "900", "sh", "-c", wait]))
    names = [suite.name for suite in suites]
    if twice := {name for name in names if names.count(name) > 1}:
        sys.exit(f"tests/suites.py: two suites have the name {' and '.join(sorted(twice))}: only one of them would be run")
    return sorted(suites, key=lambda suite: (not suite.slow, suite.rank))
