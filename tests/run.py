"""Run the suites of the table below, count every test case, and end with `N passed, N failed, N skipped`.

    run.py [--long|--lts] [PART-OF-A-NAME...]   only suites whose names contain one of these; --long: of those for which
                                                "make test" has no time; --lts: of those that judge the backport

Called by tests/run in the tool root.  A suite is a program that prints TAP, in the guest or here.  It fails as a whole, as one
more failed case, when it does not run to the end of its plan, when its exit status and its results disagree, or when lab/run
says that the kernel complained (70) or time is up (124).
"""

import argparse
import concurrent.futures
import dataclasses
import fnmatch
import glob
import os
import re
import subprocess
import sys
import threading
import time

import reasons

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab", "kernel"))
from kernels import KERNELS

OUT = "build/test"
TEST, LONG, LTS = "", "--long", "--lts"  # the lists of suites: what make test, make campaign and make lts run
WORKERS = 2  # a guest keeps about one processor busy

# Under emulation these say nothing, and take long to say it.
LEFT_OUT = {"vfio_pci_device_init_perf_test": "measures how long device setup takes, which means nothing under emulation"}
# Kernel arguments that a test needs.
ARGUMENTS = {"vfio_pci_sriov_uapi_test": "vfio_pci.enable_sriov=1"}

# iommufd's selftests, and what the series adds to them.
SERIES_OWN = {"iommufd": "-f iommufd_msi -f vfio_compat_mock_domain", "iommufd_fail_nth": "-f msi_fail_nth"}

LONGEST = ("vfio_pci_driver_test", "fail_nth_test", "/nested", "/model many")

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

    def argv(self):
        if not self.kernel:
            return self.command
        # Ten times what it takes on an idle machine; some kernels, with lockdep and KASAN, are several times slower.
        limit = "1800" if KERNELS[self.kernel].slow else "900"
        machine = ["--machine", self.machine] if self.machine else []
        return ["lab/run", "--kernel", self.kernel, *machine, "--append", self.append, "--share", self.share, "--timeout", limit, "--", *self.command]


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


def iommufd(kernel, before=""):
    """Those of iommufd, which make their devices themselves: the kernel's own or, side by side, those of the one before."""
    failures = listed(KNOWN)
    for program in SERIES_OWN:
        known = tuple(failure for failure in failures if failure.program == program)
        if before:
            share = f"build/selftests/{KERNELS[before].selftests}"
            yield Suite(f"{kernel}/{program} of {before}", [f"./{program}"], kernel, share=share, compare=f"{before}/{program}", known=known)
        else:
            # On debug those of the series alone: all of them take minutes there, and where allocations fail
            # iommu_mock_device_add(), of stock as well, leaves one behind.
            only = SERIES_OWN[program].split() if KERNELS[kernel].slow else []
            yield Suite(f"{kernel}/{program}", [program, *only], kernel, known=() if only else known)


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
        # To iommufd, v1 is v2 with small pages: one of them is enough where each test takes seconds. And where /dev/vfio/vfio is
        # iommufd's, type1's modes are those of its containers.
        less = ""
        if program.endswith(("iova_test", "domains_test")):
            less = "-V iommufd_compat_type1 " if KERNELS[kernel].slow else ""
            less = "-V iommufd_compat_type1 -V iommufd_compat_type1v2 " if kernel == "compat" else less
        command = f"exec {program} {less}$VFIO_IGB_BDFS{more}"
        yield Suite(f"{machine or kernel}/{program}", ["sh", "-c", command], kernel, machine=machine, which=which)


@dataclasses.dataclass(frozen=True)
class Difference:
    program: str
    case: str  # with * and ?
    outcome: str  # "failed", "skipped" or "missing"
    reason: str

    def fits(self, name, result):
        outcome = "failed" if name in result.excused else result.cases.get(name, "missing")
        return self.outcome == outcome and fnmatch.fnmatchcase(name, self.case)


def listed(path):
    """The table of DIFFERENCES, or that of KNOWN."""
    try:
        return [Difference(*what, why) for what, why in reasons.listed(path, r"(\w+) (\S+): (failed|skipped|missing)")]
    except reasons.Wrong as error:
        sys.exit(str(error))


def lts():
    """Mainline's programs judge 6.12 too, and find the same, but for what is listed."""
    everywhere = listed(DIFFERENCES)
    for suite in [*upstream("stock", "patched"), *ours("patched")]:
        kernel, program = suite.name.split("/")
        if kernel == "patched":
            about = tuple(difference for difference in everywhere if difference.program == program)
            yield dataclasses.replace(suite, name=f"lts/{program}", kernel="lts", compare=suite.name, different=about, which=LTS)
    for suite in (pinning, regions):
        yield dataclasses.replace(suite("lts"), compare=suite("patched").name, which=LTS)
    yield model("lts", 60, which=LTS)
    # Part of make test, which has no time to unpack 6.12.
    yield from (Suite(f"lts/{script}", [f"tests/{script}"], which=LTS) for script in ("tree/mails.py", "tree/trees.py"))


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


def nested(kernel):
    """A guest in the guest, with QEMU and with a VMM of our own."""
    return Suite(f"{kernel}/nested", ["sh", "-c", "exec ./host_test $VFIO_IGB_BDFS"], kernel, share=f"build/nested/{kernel}", machine="nested")


def table():
    suites = []
    for script in sorted(glob.glob("tests/lab/*") + glob.glob("tests/tree/*")):
        if os.access(script, os.X_OK) and os.path.isfile(script):
            suites.append(Suite(os.path.relpath(script, "tests"), [script]))
    suites.append(Suite("check", ["lab/check", "--quick"]))
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
    for program in ("iova", "domains", "fail_nth", "race"):
        suites += ours("debug", only=program)
    suites += ours("debug", which=LONG, only="untranslated")
    # Another interrupt controller: what there is to see of it.
    suites += [*ours("patched", "gicv2m", only="iova"), *ours("patched", "gicv2m", LONG, "domains")]
    # Type1 cannot enable MSIs there, on stock neither: -EOPNOTSUPP of iommu_dma_prepare_msi() for MSIs that no IOMMU translates.
    suites += ours("patched", "virtio-iommu", LONG, "iova")
    # There is a reserved region there that is no default window.
    command = "exec vfio_reserved_msi_untranslated_test -t over_resv_region $VFIO_IGB_BDFS"
    suites.append(Suite("virtio-iommu/over_resv_region", ["sh", "-c", command], "patched", machine="virtio-iommu"))
    suites += [pinning("patched"), regions("patched"), regions("debug")]
    # Other seeds where they take longer, and many where there is time.
    suites += [model("patched", 20), model("debug", 5, first=1001)]
    suites += [model("patched", 150, first=2001, which=LONG), model("debug", 30, first=3001, which=LONG)]
    suites += [model("patched", 60, machine="gicv2m", which=LONG), model("64k", 60, which=LONG)]
    suites.append(Suite("check/planted", ["python3", "tests/planted.py"], which=LONG))
    suites += lts()
    suites += [nested("stock"), nested("patched")]
    suites += ours("64k", which=LONG)
    suites.append(Suite("lab/machine intel-iommu", ["tests/lab/machine", "intel-iommu"], which=LONG))
    suites += upstream("x86-stock", "x86-patched", LONG)
    suites += ours("x86-patched", which=LONG)
    # They ran while the kernel booted; what is indented once are the cases.
    kunit = ["sh", "-c", "sed -n 's/^    //p' /sys/kernel/debug/kunit/*/results"]
    suites.append(Suite("debug/kunit", kunit, "debug"))
    suites.append(Suite("lts-debug/kunit", kunit, "lts-debug", compare="debug/kunit", which=LTS))
    for program in ("iova", "domains", "fail_nth", "race"):
        suites += [dataclasses.replace(suite, compare=f"debug/{suite.name.split('/')[1]}") for suite in ours("lts-debug", which=LTS, only=program)]
    # tests/run started it, outside of the tool root.
    if os.path.exists(f"{OUT}/outside.part"):
        wait = f"until [ -e {OUT}/outside.done ]; do sleep 1; done; cat {OUT}/outside.done"
        suites.append(Suite("setup", ["timeout", "900", "sh", "-c", wait]))
    # The longest first, so that none of them is the last to end, alone.
    return sorted(suites, key=lambda suite: not suite.name.endswith(LONGEST))


@dataclasses.dataclass
class Result:
    suite: Suite
    cases: dict = dataclasses.field(default_factory=dict)  # name -> "passed", "failed" or "skipped"
    reasons: dict = dataclasses.field(default_factory=dict)  # name -> why it was skipped
    excused: set = dataclasses.field(default_factory=set)  # failed, as is known, and counted as skipped
    errors: list = dataclasses.field(default_factory=list)  # of the suite as a whole
    seconds: float = 0.0

    def count(self, outcome):
        return sum(1 for value in self.cases.values() if value == outcome) + (len(self.errors) if outcome == "failed" else 0)


POINT = re.compile(r"(not )?ok\b(?: (\d+))?(?: -)?\s*(.*?)(?:\s*#\s*(SKIP|TODO|XFAIL)\b[:\s]*(.*))?$", re.IGNORECASE)
PLAN = re.compile(r"1\.\.(\d+)(?:\s*#\s*SKIP\s*(.*))?$", re.IGNORECASE)


def parse(text, result):
    plan = None
    for line in text.splitlines():
        if match := PLAN.match(line):
            plan = (plan or 0) + int(match[1])
            if match[1] == "0":
                result.cases["all"] = "skipped"
                result.reasons["all"] = match[2] or "no reason given"
        elif match := POINT.match(line):
            negative, number, name, directive, reason = match.groups()
            name = name or f"test {number or len(result.cases) + 1}"
            while name in result.cases:
                name += "'"
            if directive:
                result.cases[name] = "skipped"
                result.reasons[name] = reason or directive
            else:
                result.cases[name] = "failed" if negative else "passed"
    if plan is None and not result.cases:
        result.errors.append("ran no test")
    elif plan is None:
        result.errors.append("printed no plan")
    elif plan and plan != len(result.cases):
        result.errors.append(f"planned {plan} tests, reported {len(result.cases)}")
    elif {"skipped"} == set(result.cases.values()):
        result.errors.append("skipped all it is for")


def judge(status, result):
    """What the exit status says beyond the cases.  kselftest: 0 all passed, 1 some failed, 4 all skipped."""
    if status == 70:
        result.errors.append("the kernel complained")
    elif status == 124:
        result.errors.append("out of time")
    elif status not in (0, 1, 4):
        result.errors.append(f"exit status {status}")
    elif status == 1 and not result.errors and "failed" not in result.cases.values():
        result.errors.append("exit status 1 without a failed test")
    elif status != 1 and "failed" in result.cases.values():
        result.errors.append(f"exit status {status} with failed tests")


def excuse(result):
    """What is known to fail on this kernel."""
    for name, outcome in result.cases.items():
        for difference in (*result.suite.different, *result.suite.known):
            if outcome == "failed" and difference.fits(name, result):
                result.cases[name] = "skipped"
                result.reasons[name] = f"known to fail here: {difference.reason}"
                result.excused.add(name)
                break
    for known in result.suite.known:
        if not any(known.fits(name, result) for name in result.cases):
            result.errors.append(f"{known.case} is not {known.outcome} any more: correct {KNOWN}")


def log_name(suite, kind):
    return f"{OUT}/{re.sub('[/ ]', '-', suite.name)}.{kind}"


def run(suite, running):
    result = Result(suite)
    start = running[suite.name] = time.monotonic()
    with open(log_name(suite, "tap"), "wb") as out, open(log_name(suite, "log"), "wb") as err:
        status = subprocess.run(suite.argv(), stdin=subprocess.DEVNULL, stdout=out, stderr=err, check=False).returncode
    with open(log_name(suite, "tap"), encoding="utf-8", errors="replace") as file:
        parse(file.read(), result)
    judge(status, result)
    excuse(result)
    result.seconds = time.monotonic() - start
    del running[suite.name]
    return result


def counts(result):
    text = f"{result.count('passed'):4} passed"
    for outcome in ("failed", "skipped"):
        text += f", {result.count(outcome)} {outcome}" if result.count(outcome) else ""
    return text


def report(result):
    suite = result.suite
    tap = log_name(suite, "tap")
    print(f"{suite.name:42} {counts(result):34} {result.seconds:5.0f} s  {tap}")
    for name, outcome in result.cases.items():
        if outcome == "failed":
            print(f"    FAILED {name}")
    for error in result.errors:
        print(f"    FAILED {error}: see also {log_name(suite, 'log')}")
    by_reason = {}
    for name, reason in result.reasons.items():
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        print(f"    skipped {len(names)}: {reason}")
    sys.stdout.flush()


def compare(results):
    """The same programs on two kernels, side by side: each case ends the same way, but for what is listed."""
    pairs = [(results[r.suite.compare], r) for r in results.values() if r.suite.compare in results]
    if not pairs:
        return []
    print(f"\n{'the same program':42} {'on the other kernel':30} {'on this one':30}")
    verdicts = []
    for other, this in pairs:
        verdict = Result(Suite(f"same/{this.suite.name}", []))
        different = [name for name in sorted({*other.cases, *this.cases}) if other.cases.get(name) != this.cases.get(name)]
        wrong = [
            f"{name}: {other.cases.get(name, 'missing')} on {other.suite.kernel}, {this.cases.get(name, 'missing')} on {this.suite.kernel}"
            for name in different if not any(listed.fits(name, this) for listed in this.suite.different)
        ]
        wrong += [
            f"{listed.case}: {DIFFERENCES} says that it is {listed.outcome} on {this.suite.kernel}, and it is not: correct the list"
            for listed in this.suite.different if not any(listed.fits(name, this) for name in different)
        ]
        verdict.cases["same"] = "failed" if wrong else "passed"
        words = "DIFFERENT" if wrong else f"same but for {len(different)}, {DIFFERENCES} says why" if different else "same"
        print(f"{this.suite.name:42} {counts(other):30} {counts(this):30} {words}")
        for line in wrong:
            print(f"    FAILED {line}")
        verdicts.append(verdict)
    return verdicts


def show_progress(running, done, total, stop):
    """Suites take minutes: say every so often what is being waited for."""
    start = time.monotonic()
    terminal = sys.stdout.isatty()
    while not stop.wait(1 if terminal else 30):
        elapsed = time.monotonic() - start
        text = f"{elapsed // 60:.0f}:{elapsed % 60:02.0f} {len(done)}/{total} suites done, running: {', '.join(sorted(running))}"
        print(f"\r\033[K{text[: os.get_terminal_size().columns - 1]}\r" if terminal else f"... {text}", end="" if terminal else "\n", flush=True)


def main(wanted, which):
    os.makedirs(OUT, exist_ok=True)
    everything = {suite.name: suite for suite in table()}
    suites = [suite for suite in everything.values() if suite.which == which and (not wanted or any(word in suite.name for word in wanted))]
    if not suites:
        more = "" if which else f"; there are more with {LONG} and {LTS}"
        sys.exit(f"tests/run: no suite has {' or '.join(wanted)} in its name{more}")
    # What they are compared with runs along.
    names = {suite.name for suite in suites}
    suites += [suite for suite in everything.values() if suite.name in {suite.compare for suite in suites} - names]
    running, results, stop = {}, {}, threading.Event()
    threading.Thread(target=show_progress, args=(running, results, len(suites), stop), daemon=True).start()
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        for future in concurrent.futures.as_completed([pool.submit(run, suite, running) for suite in suites]):
            result = future.result()
            results[result.suite.name] = result
            if sys.stdout.isatty():
                print("\033[K", end="")
            report(result)
    stop.set()
    finished = [*results.values(), *compare(results)]
    if not wanted:
        print("\nleft out: " + "; ".join(f"{program} ({reason})" for program, reason in LEFT_OUT.items()))
    passed, failed, skipped = (sum(result.count(outcome) for result in finished) for outcome in ("passed", "failed", "skipped"))
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="tests/run", usage="tests/run [--long|--lts] [PART-OF-A-NAME...]")
    group = parser.add_mutually_exclusive_group()
    for option in (LONG, LTS):
        group.add_argument(option, dest="which", action="store_const", const=option, default=TEST)
    parser.add_argument("words", nargs="*")
    arguments = parser.parse_args()
    main(arguments.words, arguments.which)
