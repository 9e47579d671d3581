# SPDX-License-Identifier: GPL-2.0-only
"""The virtual hosts, as tables: what QEMU is to build, and where it ends up.

Every PCI address is given, none is left to QEMU's or the firmware's mood, so
that tests and people can rely on them.
"""

from dataclasses import dataclass

# Slots on the first root complex of what the lab itself needs: serial ports
# and shared directories.
SERIAL, SHARE, SELFTESTS, USR, QEMU = "0x1", "0x2", "0x3", "0xa", "0xb"


@dataclass(frozen=True)
class Architecture:
    qemu: str
    host: str  # as uname calls it
    cpu: str
    console: str
    firmware: tuple = ()
    fine_clock: tuple = ()  # for a clock that is read to the nanosecond, and not to the 16 that are usual


@dataclass(frozen=True)
class RootComplex:
    """A root bus with an igb behind a root port."""

    bus: int
    slot: int  # of the expander on the first root complex; 0: it is the first


# One more takes a free slot of pcie.0, see below, and a place in the lists of tests/lab/machine and lab/README.md.
COMPLEXES = (RootComplex(0x00, 0), RootComplex(0x08, 6), RootComplex(0x10, 7))


@dataclass(frozen=True)
class Machine:
    what: str
    board: str
    iommu: str  # with {bus} in it, one for each root complex; empty: none but what the board has
    arch: str = "arm64"
    append: str = ""
    kvm: bool = False  # has guests of its own
    pair: bool = False  # has two more igbs, in one IOMMU group
    vfio: bool = True  # its devices can be VFIO's
    complexes: tuple = COMPLEXES
    tcg: str = ""  # why KVM cannot make it; empty if it can
    overlay: str = ""  # over QEMU's device tree, which it boots with, in the place of UEFI and ACPI


ARCHITECTURES = {
    "arm64": Architecture(
        "qemu-system-aarch64",
        "aarch64",
        "neoverse-n1",
        "ttyAMA0",
        # The variables are thrown away: every run starts from the same firmware.
        (
            "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd",
            "if=pflash,unit=1,format=raw,snapshot=on,file=/usr/share/AAVMF/AAVMF_VARS.fd",
        ),
        ("-global", "arm-cpu.cntfrq=1000000000"),
    ),
    "x86": Architecture("qemu-system-x86_64", "x86_64", "max", "ttyS0"),
}

IGB_PORT_SLOT = 4  # of the root port on the first complex; slot 0 on the others
EDU_SLOT = 5
IOMMU_SLOT = 8  # of an IOMMU that is a PCI device
VECTORS_SLOT = 9  # of a device with more MSI-X vectors than an igb has; neither firmware nor kernel does anything with it
SWITCH_SLOT = 12  # of the root port that the switch with the pair is behind
# Nothing uses I/O ports, and windows of 4 KiB for them cannot be mapped where pages have 64.
PORT = "io-reserve=0,romfile="

DEVICES = {
    "VFIO_EDU_BDF": "0000:00:05.0",
    "VFIO_VECTORS_BDF": "0000:00:09.0",
}
PAIR = {"VFIO_PAIR_BDFS": "0000:04:00.0 0000:05:00.0"}

# The first of each architecture is its default.
MACHINES = {
    "smmuv3": Machine(
        what="GICv3 with ITS, three SMMUv3s, on each an igb, on the first also an edu",
        board="virt,gic-version=3,its=on",
        iommu="arm-smmuv3,primary-bus={bus}",
    ),
    "gicv2m": Machine(
        what="as smmuv3, with GICv2m instead of the ITS",
        board="virt,gic-version=2",
        iommu="arm-smmuv3,primary-bus={bus}",
        tcg="not every host with GICv3 has a GICv2 for guests",
        # GICv2m does not tell devices apart, which both backends want to be forgiven.
        append="vfio_iommu_type1.allow_unsafe_interrupts=1 iommufd.allow_unsafe_interrupts=1",
    ),
    "virtio-iommu": Machine(
        what="as smmuv3, with one virtio-iommu for all devices instead of the SMMUs",
        board="virt,gic-version=3,its=on",
        iommu=f"virtio-iommu-pci,bus=pcie.0,addr={IOMMU_SLOT:#x}",
    ),
    "nested": Machine(
        what="as smmuv3, with EL2 for KVM",
        board="virt,gic-version=3,its=on,virtualization=on",
        iommu="arm-smmuv3,primary-bus={bus}",
        tcg="most hosts have no EL2 for guests",
        kvm=True,
    ),
    "group": Machine(
        what="as smmuv3, with two more igbs, in one IOMMU group",
        board="virt,gic-version=3,its=on",
        iommu="arm-smmuv3,primary-bus={bus}",
        pair=True,
    ),
    "no-iommu": Machine(
        what="as smmuv3, without an IOMMU, so that VFIO has no devices",
        board="virt,gic-version=3,its=on",
        iommu="",
        vfio=False,
    ),
    "reserved": Machine(
        what="a device tree, whose firmware reserves the default window; one SMMUv3, with an igb",
        board="virt,gic-version=3,its=on,iommu=smmuv3",
        iommu="",
        complexes=COMPLEXES[:1],
        overlay="reserved.dtso",
    ),
    "intel-iommu": Machine(
        what="x86-64, one Intel IOMMU for the same devices",
        board="q35,kernel-irqchip=split",
        iommu="intel-iommu,intremap=on",
        arch="x86",
    ),
}


def default(arch):
    return next(name for name, machine in MACHINES.items() if machine.arch == arch)


def igbs(complexes):
    """Each is alone behind the one root port of its complex."""
    return " ".join(f"0000:{complex.bus + 1:02x}:00.0" for complex in complexes)


def devices(machine):
    """What the guest finds them under in its environment."""
    found = {"VFIO_IGB_BDFS": igbs(machine.complexes), **DEVICES}
    return {**found, **PAIR} if machine.pair else found


def options(machine, memory, cpus, accel):
    """QEMU's options for the hardware of a machine."""
    arch = ARCHITECTURES[machine.arch]
    out = ["-M", machine.board, "-accel", accel, "-cpu", "host" if accel == "kvm" else arch.cpu, "-m", memory, "-smp", str(cpus)]
    if not machine.overlay:
        for drive in arch.firmware:
            out += ["-drive", drive]
    if machine.iommu and "{bus}" not in machine.iommu:
        out += ["-device", machine.iommu]
    for complex_ in machine.complexes:
        bus = "pcie.0"
        port_slot = IGB_PORT_SLOT
        if complex_.slot:
            bus = f"pcie.{complex_.bus:x}"
            port_slot = 0
            out += ["-device", f"pxb-pcie,id={bus},bus_nr={complex_.bus},bus=pcie.0,addr={complex_.slot:#x}"]
        if "{bus}" in machine.iommu:
            out += ["-device", machine.iommu.format(bus=bus)]
        port = f"port.{complex_.bus:x}"
        place = f"bus={bus},addr={port_slot:#x},chassis={complex_.bus + 1}"
        out += ["-device", f"pcie-root-port,id={port},{place},{PORT}"]
        out += ["-device", f"igb,bus={port},romfile="]
    if machine.pair:
        # The ports of this switch are functions of one device that does not say that it keeps their traffic apart (ACS): all that
        # is behind them is one group. Two functions of an igb would not be: the kernel knows that they do keep it apart.
        out += ["-device", f"pcie-root-port,id=port.switch,bus=pcie.0,addr={SWITCH_SLOT:#x},chassis=2,{PORT}"]
        out += ["-device", "x3130-upstream,id=switch,bus=port.switch"]
        for function in (0, 1):
            out += ["-device", f"xio3130-downstream,id=switch.{function},bus=switch,addr=0x0.{function},multifunction=on,chassis={3 + function}"]
            out += ["-device", f"igb,bus=switch.{function},romfile="]
    out += ["-device", f"edu,bus=pcie.0,addr={EDU_SLOT:#x}"]
    out += ["-device", f"virtio-balloon-pci,vectors=32,bus=pcie.0,addr={VECTORS_SLOT:#x},romfile="]
    return out
