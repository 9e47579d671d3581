# SPDX-License-Identifier: GPL-2.0-only
"""Boot the virtual host, run one command in it, and end as the command ended.

Called by lab/run, in the tool root.  What QEMU gets is not written to a file:
whatever kills this process, QEMU dies with it (lab/in-root's PID namespace)
and nothing stays behind but the log.  Only while the initrd or a device tree
is being made are there files, in build/lab.
"""

import argparse
import os
import platform
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
import tty

from lab.host import complaints, initrd, machines
from lab.kernel.kernels import DEFAULTS, KERNELS

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(TOP, "build")
HERE = os.path.dirname(os.path.abspath(__file__))

EXIT_USAGE = 2
EXIT_COMPLAINT = 70
EXIT_LAB = 71  # the lab itself failed: no kernel, QEMU did not start, the guest ended early
EXIT_TIMEOUT = 124

# A busy host makes the guest stand still for seconds: only a longer stall is one. Huge pages have 2 MiB whatever is natural.
KERNEL_ARGUMENTS = "loglevel=7 panic=-1 default_hugepagesz=2M hugepages=64 rcupdate.rcu_cpu_stall_timeout=120"
ENVIRONMENT = {
    "PATH": "/bin:/opt/vfio-selftests:/opt/qemu:/usr/bin",
    "HOME": "/tmp",
    "TERM": os.environ.get("TERM", "dumb"),
}


class LabError(Exception):
    pass


def seconds(text):
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("a positive number of seconds is wanted")
    return value


def parse(words):
    kinds = "; ".join(f"{name}: {machine.what}" for name, machine in machines.MACHINES.items())
    parser = argparse.ArgumentParser(
        prog="lab/run",
        usage="lab/run [OPTION]... -- COMMAND [ARG...]",
        description="Run COMMAND as root on the virtual host and exit with its status.",
        epilog=f"exit status: {EXIT_COMPLAINT} the kernel complained, {EXIT_LAB} the lab failed, "
        f"{EXIT_TIMEOUT} out of time, {EXIT_USAGE} wrong use, 128+N the command died of signal N, else the command's",
        allow_abbrev=False,
    )
    parser.add_argument("--kernel", choices=KERNELS, help="; ".join(f"{name}: {kernel.what}" for name, kernel in KERNELS.items()))
    parser.add_argument("--machine", choices=machines.MACHINES, help=kinds)
    parser.add_argument("--share", metavar="DIR", help="appears read-write at /mnt, where COMMAND starts")
    parser.add_argument("--timeout", metavar="SECONDS", type=seconds, default=1800.0, help="default: %(default)g")
    # Kernels with KASAN take half a minute to boot, and on a busy host several times that.
    parser.add_argument("--boot-timeout", metavar="SECONDS", type=seconds, default=300.0, help="until COMMAND starts; default: %(default)g")
    parser.add_argument("--icount", action="store_true", help="one CPU whose clock counts instructions")
    parser.add_argument("--accel", choices=("kvm", "tcg"), help="default: kvm for Arm machines on an Arm host that has /dev/kvm, if KVM can make them")
    parser.add_argument("--append", metavar="ARGS", default="", help="further kernel arguments")
    parser.add_argument("--shell", action="store_true", help="give COMMAND this terminal; the default is a shell")
    options, command = words, []
    if "--" in words:
        split = words.index("--")
        options, command = words[:split], words[split + 1 :]
    args = parser.parse_args(options)
    args.command = command
    # What is not given is what goes with the rest.
    arch = KERNELS[args.kernel].arch if args.kernel else machines.MACHINES[args.machine].arch if args.machine else "arm64"
    args.kernel = args.kernel or DEFAULTS[arch]
    args.machine = args.machine or machines.default(arch)
    if machines.MACHINES[args.machine].arch != arch:
        kernels = [name for name, kernel in KERNELS.items() if kernel.arch != arch]
        parser.error(f"kernel {args.kernel} is for {arch}, machine {args.machine} is not; its kernels are {', '.join(kernels)}")
    why = "KVM counts no instructions" if args.icount else no_kvm(machines.MACHINES[args.machine])
    if args.accel == "kvm" and why:
        parser.error(f"--accel kvm: {why}")
    args.accel = args.accel or ("tcg" if why or arch != "arm64" else "kvm")
    if args.shell:
        args.command = command or ["sh", "-l"]
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            parser.error("--shell wants a terminal on stdin and stdout")
    elif not command:
        parser.error("no command: write -- COMMAND [ARG...] at the end, or --shell")
    return args


def no_kvm(machine):
    """Why KVM cannot run it here, or nothing."""
    arch = machines.ARCHITECTURES[machine.arch]
    if platform.machine() != arch.host:
        return f"this host is {platform.machine()}, the machine would have to be one of {arch.host}"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "there is no /dev/kvm here that may be read and written"
    return machine.tcg


def strings(words):
    return b"".join(os.fsencode(word) + b"\0" for word in words)


def guest_files(args):
    """What init reads from /lab, see lab/guest/init.c."""
    machine = machines.MACHINES[args.machine]
    devices = machines.devices(machine)
    environment = dict(ENVIRONMENT, **devices)
    environment["VFIO_SELFTESTS_BDF"] = devices["VFIO_IGB_BDFS"].split()[0]
    environment["LAB_KERNEL"], environment["LAB_MACHINE"] = args.kernel, args.machine
    if args.shell:
        size = os.get_terminal_size()
        environment.update(LAB_TERMINAL="1", LINES=str(size.lines), COLUMNS=str(size.columns), PS1="lab:\\w# ")
    return {
        "lab/argv": strings(args.command),
        "lab/environ": strings(f"{name}={value}" for name, value in environment.items()),
        "lab/devices": "\n".join(" ".join(devices.values()).split() if machine.vfio else ()).encode(),
    }


def memory_file(name, data):
    fd = os.memfd_create(name)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(data)
    return fd


def device_tree(line, overlay):
    """That of the machine which this command line makes, with an overlay over it."""
    with tempfile.TemporaryDirectory(dir=os.path.join(BUILD, "lab")) as where:
        plain, over, both = (os.path.join(where, name) for name in ("plain", "over", "both"))
        for command in (
            [*line, "-machine", f"dumpdtb={plain}"],
            ["dtc", "-q", "-I", "dts", "-O", "dtb", "-o", over, os.path.join(HERE, overlay)],
            ["fdtoverlay", "-i", plain, "-o", both, over],
        ):
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            if done.returncode:
                raise LabError(f"no device tree with {overlay}: {command[0]} ended with status {done.returncode}: {done.stdout.strip()}")
        with open(both, "rb") as file:
            return file.read()


def write_all(fd, data):
    while data:
        data = data[os.write(fd, data) :]


class Host:
    """One QEMU: its ports, its log, and how its life went."""

    def __init__(self, args):
        self.args = args
        self.machine = machines.MACHINES[args.machine]
        self.arch = machines.ARCHITECTURES[self.machine.arch]
        self.kernel = os.path.join(BUILD, "kernel", args.kernel, KERNELS[args.kernel].image)
        if not os.path.exists(self.kernel):
            raise LabError(f"there is no kernel '{args.kernel}' yet: run 'make kernel KERNEL={args.kernel}'")
        logs = os.path.join(BUILD, "logs")
        os.makedirs(logs, exist_ok=True)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        self.log_fd, self.log = tempfile.mkstemp(
            prefix=f"{stamp}-{args.kernel}-{args.machine}-", suffix=".log", dir=logs
        )
        os.chmod(self.log, 0o644)
        self.ports = {}
        self.status = b""
        self.timed_out = False

    def command_line(self, fds):
        """fds is filled with what QEMU inherits."""
        args = self.args
        base = os.path.join(BUILD, "lab", f"initrd-{self.machine.arch}.cpio")
        initrd.build(base, self.machine.arch)
        with open(base, "rb") as file:
            data = file.read() + initrd.archive(guest_files(args))
        image = memory_file("initrd", data)
        fds.append(image)

        line = [self.arch.qemu, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        line += machines.options(self.machine, KERNELS[args.kernel].memory, 1 if args.icount else 2, args.accel)
        if self.machine.overlay:
            fds.append(memory_file("dtb", device_tree(line, self.machine.overlay)))
            line += ["-dtb", f"/proc/self/fd/{fds[-1]}"]
        if args.icount:
            line += ["-icount", "shift=0,sleep=off", *self.arch.fine_clock]
        line += ["-kernel", self.kernel, "-initrd", f"/proc/self/fd/{image}"]
        arguments = (f"console={self.arch.console}", KERNEL_ARGUMENTS, self.machine.append, args.append)
        line += ["-append", " ".join(filter(None, arguments))]
        line += ["-chardev", f"file,id=console,append=on,path={self.log}", "-serial", "chardev:console"]

        line += ["-device", f"virtio-serial-pci,id=serial,bus=pcie.0,addr={machines.SERIAL},romfile="]
        # Devices, and the numbers init knows them by.
        ports = {"out": "virtserialport,nr=1", "err": "virtserialport,nr=2", "status": "virtserialport,nr=3"}
        if args.shell:
            ports = {"terminal": "virtconsole,nr=0", "status": ports["status"]}
        for name, device in ports.items():
            ours, qemus = socket.socketpair()
            self.ports[name] = ours
            fds.append(qemus.detach())
            line += ["-chardev", f"socket,id={name},fd={fds[-1]}", "-device", f"{device},chardev={name}"]

        selftests = os.path.join(BUILD, "selftests", KERNELS[args.kernel].selftests)
        qemu = os.path.join(BUILD, "qemu", "bin")
        for tag, path, slot, extra in (
            ("share", args.share and "/mnt", machines.SHARE, ""),
            ("selftests", os.path.isdir(selftests) and selftests, machines.SELFTESTS, ",readonly=on"),
            ("usr", self.machine.kvm and "/opt/unpacked/arm64/usr", machines.USR, ",readonly=on"),
            ("qemu", self.machine.kvm and os.path.isdir(qemu) and qemu, machines.QEMU, ",readonly=on"),
        ):
            if path:
                line += ["-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap{extra}"]
                line += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag},bus=pcie.0,addr={slot},romfile="]
        return line

    def run(self):
        fds = []
        try:
            line = self.command_line(fds)
            qemu = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=self.log_fd, stderr=self.log_fd, pass_fds=fds)
        finally:
            for fd in fds:
                os.close(fd)
        self.relay()
        if self.timed_out:
            qemu.kill()
        self.qemu_status = qemu.wait()

    def relay(self):
        """Copy the ports until QEMU closes them all, or time is up."""
        began = time.monotonic()
        deadline = began + self.args.timeout
        boot_deadline = min(deadline, began + self.args.boot_timeout)
        with selectors.DefaultSelector() as selector:
            for name, port in self.ports.items():
                selector.register(port, selectors.EVENT_READ, name)
            if self.args.shell:
                selector.register(sys.stdin, selectors.EVENT_READ, "keyboard")
            left = len(self.ports)
            while left:
                limit = deadline if self.status else boot_deadline
                ready = {key.data: key.fileobj for key, _ in selector.select(max(0, limit - time.monotonic()))}
                if time.monotonic() >= limit:
                    self.timed_out = True
                    return
                if ready.pop("keyboard", None):
                    self.ports["terminal"].sendall(os.read(0, 4096))
                # The status first: it says whether what the terminal shows is the command's.
                for name in sorted(ready, key="status".__ne__):
                    data = ready[name].recv(1 << 16)
                    if not data:
                        selector.unregister(ready[name])
                        left -= 1
                    elif name == "status":
                        self.status += data
                    elif name != "terminal" or self.status:  # the firmware writes to the terminal too
                        write_all(2 if name == "err" else 1, data)

    def verdict(self):
        """The exit status, and what has to be said about it."""
        log = os.path.relpath(self.log, TOP)
        with open(self.log, encoding="utf-8", errors="replace") as file:
            console = file.read()
        complaint = complaints.find(console)
        words = self.status.decode().split()
        if complaint:
            late = " and time ran out" if self.timed_out else ""
            return EXIT_COMPLAINT, [f"the kernel complained{late}; the console is in {log}:", *complaint]
        if self.timed_out and not words:
            tail = console.splitlines()[-complaints.SHOWN :]
            limit = min(self.args.timeout, self.args.boot_timeout)
            return EXIT_TIMEOUT, [f"the virtual host did not boot within {limit:g} s; the console is in {log}, and ends:", *tail]
        if self.timed_out:
            return EXIT_TIMEOUT, [f"out of time after {self.args.timeout:g} s; the console is in {log}"]
        if len(words) == 3:
            _, how, number = words
            return int(number) + (128 if how == "signal" else 0), []
        if not console or self.qemu_status:
            what = f"QEMU ended with status {self.qemu_status}"
        elif words:
            what = "the virtual host stopped while the command ran"
        else:
            what = "the virtual host stopped before the command ran"
        tail = console.splitlines()[-complaints.SHOWN :]
        return EXIT_LAB, [f"{what}; the console is in {log}, and ends:", *tail]


def main():
    # A reader of our output that goes away ends us, and QEMU with us.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    args = parse(sys.argv[1:])
    try:
        host = Host(args)
        if args.shell:
            saved = termios.tcgetattr(0)
            tty.setraw(0)
        try:
            host.run()
        finally:
            if args.shell:
                termios.tcsetattr(0, termios.TCSADRAIN, saved)
        status, lines = host.verdict()
    except (LabError, OSError, subprocess.CalledProcessError) as error:
        status, lines = EXIT_LAB, [str(error)]
    except KeyboardInterrupt:
        status, lines = 130, ["interrupted"]
    for number, line in enumerate(lines):
        print(f"lab/run: {line}" if not number else f"    {line}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
