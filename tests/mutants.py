# SPDX-License-Identifier: GPL-2.0-only
"""Do the tests notice when the series is wrong?

    mutants.py [NUMBER...]      all mutants of the table below, or these

Boots the kernel `mutants`, in which tests/mutants/mutants.patch makes one mistake at a time, and runs the tests that have to
notice it: at least one of them has to fail, or the kernel to complain. Mutant 0 is no mistake: there, all the tests that are
named here pass. Called by `make mutants` in the tool root.
"""

import concurrent.futures
import dataclasses
import os
import re
import shutil
import subprocess
import sys

OUT = "build/mutants"
PATCH = "tests/mutants/mutants.patch"
SELFTESTS = "build/selftests/patched"
MODULE = "build/module/mutants"  # the modules of tests/module, and their tests
RANDOM = "build/model"
WORKERS = 4  # guests; they wait for devices for half of their time

KUNIT = "kunit"
IOVA = "vfio_reserved_msi_iova_test"
DOMAINS = "vfio_reserved_msi_domains_test"
FAIL_NTH = "vfio_reserved_msi_fail_nth_test"
RACE = "vfio_reserved_msi_race_test"
UNTRANSLATED = "vfio_reserved_msi_untranslated_test"
PIN = "pin_test"  # of tests/module
RESV = "resv_test"
MODEL = "model_test"  # of tests/model
MOCK = "iommufd"  # of tools/testing/selftests/iommu: mock devices, all the tests of windows when none is named

def without(*variants):
    return " ".join(f"-V {variant}" for variant in variants)


# On one backend where both have the same code, and with few domains where their number makes a test take longer.
V2_ONLY = without("vfio_type1_iommu", "vfio_type1_iommu_first", "vfio_type1_iommu_middle", "vfio_type1_iommu_last")
ONE_DOMAIN = without("vfio_type1_iommu_3", "vfio_type1v2_iommu_2", "vfio_type1v2_iommu_3")
THREE_DOMAINS = without("vfio_type1_iommu_3", "vfio_type1v2_iommu_1", "vfio_type1v2_iommu_2")
TWO_DOMAINS = without("vfio_type1_iommu_3", "vfio_type1v2_iommu_1", "vfio_type1v2_iommu_3")


@dataclasses.dataclass(frozen=True)
class Mutant:
    number: int
    what: str
    program: str
    tests: str = ""  # at least one of them fails; empty: any of the program's
    alone: bool = False  # crashes the kernel, makes it complain or spoils what comes next, and gets a boot of its own
    options: str = V2_ONLY

    @property
    def name(self):
        return f"{self.number}-{self.program}"

    @property
    def own_boot(self):
        return self.alone or self.program == KUNIT  # KUnit tests run once, while the kernel boots

    @property
    def command(self):
        if self.program == KUNIT:
            return "cat /sys/kernel/debug/kunit/*/results"
        if self.program == MODEL:
            return f"./{MODEL} --seeds 10 $VFIO_IGB_BDFS $VFIO_EDU_BDF $VFIO_VECTORS_BDF"
        if self.program == MOCK:
            return " ".join([MOCK, *(f"-t {test}" for test in self.tests.split())])
        program = f"./{self.program}" if self.program in (PIN, RESV) else self.program
        joining = ["$VFIO_VECTORS_BDF"] if self.program == RESV else []
        return " ".join([program, self.options, *(f"-t {test}" for test in self.tests.split()), *joining, "$VFIO_IGB_BDFS"])


MUTANTS = (
    # drivers/iommu/dma-iommu.c
    Mutant(1, "a doorbell that is mapped does not keep its region in place", IOVA, "busy release_busy"),
    Mutant(2, "regions move before all domains were looked at", DOMAINS, "busy release_busy"),
    Mutant(3, "only the first domain is asked whether it is busy", DOMAINS, "busy busy_retry release_busy"),
    Mutant(4, "the last domain is not asked whether it is busy", DOMAINS, "busy busy_retry release_busy"),
    Mutant(5, "only the region of the first domain moves", IOVA, "geometry one_granule"),
    Mutant(6, "regions move, slowly, without the lock that doorbells are mapped under", RACE, alone=True),
    Mutant(7, "doorbells are not counted", IOVA, "geometry_doorbells busy"),
    Mutant(8, "a doorbell that does not fit is mapped behind the region", KUNIT, "msi_test_fill msi_test_move"),
    Mutant(9, "a doorbell that could not be mapped is counted", KUNIT, "msi_test_map_fails"),
    Mutant(10, "regions are moved anywhere", KUNIT, "msi_test_move_refused"),
    Mutant(11, "the size of a region stays when it moves", KUNIT, "msi_test_move"),
    Mutant(12, "regions may wrap around", KUNIT, "msi_test_get_cookie msi_test_move_refused"),
    Mutant(13, "no doorbell is reported", IOVA, "geometry_doorbells"),
    Mutant(14, "an interrupt is lost when its doorbell cannot be mapped", FAIL_NTH, "enable_msi", alone=True, options=TWO_DOMAINS),
    # Registering
    Mutant(20, "other flags are accepted beside the window's", IOVA, "with_flag_read with_flag_write with_flag_vaddr"),
    Mutant(21, "a vaddr is accepted", IOVA, "with_vaddr"),
    Mutant(22, "a size of 0 is accepted", IOVA, "size_zero", alone=True),
    Mutant(23, "a window may wrap around", IOVA, "wrap wrap_to_zero"),
    Mutant(24, "a window need not be aligned to the granule", IOVA, "misaligned_iova misaligned_size"),
    Mutant(25, "a second window is accepted", IOVA, "second_window second_window_works", alone=True),
    Mutant(26, "a window over a mapping is accepted", IOVA, "overlaps_mapping"),
    Mutant(27, "a window outside of the aperture is accepted", IOVA, "leaves_aperture"),
    Mutant(28, "a window is accepted without an entry for it", IOVA, "no_entry_left"),
    Mutant(29, "a window takes no entry", IOVA, "dma_avail no_entry_left"),
    Mutant(30, "the default window stays out of the IOVA ranges", IOVA, "iova_ranges"),
    Mutant(31, "a window is registered without the lock of the container", RACE, alone=True),
    Mutant(32, "a window stays linked although the domains could not move", IOVA, "busy"),
    Mutant(33, "IOVA ranges stay changed although the domains could not move", IOVA, "busy"),
    Mutant(34, "a window takes an entry although the domains could not move", IOVA, "busy"),
    Mutant(35, "regions that devices have brought are not asked for", RESV, "hotplug_register"),
    Mutant(36, "no memory for the move is another error", FAIL_NTH, "reserve release", options=ONE_DOMAIN),
    Mutant(37, "no memory for the move is no error", FAIL_NTH, "reserve release", options=THREE_DOMAINS),
    Mutant(38, "regions that devices have brought keep other groups out", RESV, "hotplug_attach"),
    Mutant(91, "what a detach could not find out is never found out", RESV, "detach_register detach_release"),
    Mutant(39, "the default window is free without another one registered", IOVA, "iova_ranges identity_mapped_ram"),
    # Releasing
    Mutant(40, "the default window stays in the IOVA ranges", IOVA, "release release_and_register"),
    Mutant(41, "memory in the default window is not looked for", IOVA, "release_default_in_use"),
    Mutant(42, "a window that is released keeps its entry", IOVA, "release dma_avail"),
    Mutant(43, "domains keep the window that is released", IOVA, "release"),
    Mutant(44, "a window goes before the domains were asked", DOMAINS, "release_busy release_busy_retry"),
    Mutant(45, "IOVA ranges change although the domains could not move back", DOMAINS, "release_busy"),
    Mutant(46, "other flags are accepted beside the one that releases", IOVA, "release_arguments"),
    Mutant(47, "another range releases the window", IOVA, "release_arguments"),
    Mutant(48, "a window in the default window is taken for memory in it", IOVA, "release_in_default"),
    Mutant(49, "unmapping exactly the window releases it", IOVA, "unmap_window"),
    # Attaching and detaching groups, closing the container
    Mutant(50, "a new domain gets the default window", DOMAINS, "attach detach"),
    Mutant(51, "memory in the default window keeps a group out", DOMAINS, "attach_default_in_use"),
    Mutant(52, "a new group takes its default window out of the IOVA ranges", DOMAINS, "attach"),
    Mutant(53, "a window need not suit a new group", UNTRANSLATED, "beyond_aperture over_resv_region"),
    Mutant(54, "a group that leaves puts default windows into the IOVA ranges", DOMAINS, "detach"),
    Mutant(55, "the window is mapped in a new domain as if it were memory", DOMAINS, "attach"),
    Mutant(56, "closing the container unmaps the window as if it were memory", IOVA, "close", alone=True),
    Mutant(57, "the default window of a domain goes with the group that had it", RESV, "release_left_behind default_left_behind"),
    Mutant(87, "a group whose MSIs are translated shares the domain of one whose are not", RESV, "join_without_cookie join_without_cookie_window"),
    Mutant(58, "a replay that failed unmaps more than it mapped", FAIL_NTH, "attach", alone=True, options=TWO_DOMAINS),
    Mutant(59, "pages stay pinned when the first group with an IOMMU cannot be attached", FAIL_NTH, "attach", options="-f reserved_msi_fail_nth_emulated"),
    # Unmapping, updating vaddr, dirty tracking, mapping
    Mutant(60, "the window is counted in what was unmapped", IOVA, "unmap_all unmap_more"),
    Mutant(61, "the window is unmapped as if it were memory", IOVA, "unmap_all unmap_more", alone=True),
    Mutant(62, "the window is counted in what has no vaddr", DOMAINS, "vaddr_range"),
    Mutant(63, "the window is counted in what has its vaddr back", DOMAINS, "vaddr_rollback"),
    Mutant(64, "on v1, a range that begins in the window ends there", IOVA, "unmap_part_and_mapping", options=""),
    Mutant(65, "a dirty bitmap may not begin in the window", IOVA, "dirty_tracking_window_first dirty_tracking_start_first"),
    Mutant(66, "a dirty bitmap may not end in the window", IOVA, "dirty_tracking_window_first dirty_tracking_start_first"),
    Mutant(67, "the window becomes dirty when a group leaves", DOMAINS, "detach_dirty_tracking", alone=True),
    Mutant(68, "the window's dirty bits are read", IOVA, "dirty_tracking_window_first dirty_tracking_start_first", alone=True),
    Mutant(89, "a bitmap that user space cannot take stays shifted", IOVA, "dirty_tracking_fault"),
    Mutant(90, "bits in user space's buffer become a mapping's", UNTRANSLATED, "dirty_tracking_fault"),
    Mutant(69, "dirty bits behind a mapping stay for the next call", IOVA, "dirty_tracking_window_first dirty_tracking_start_first"),
    Mutant(73, "an unmap may not begin in the window", IOVA, "unmap_part unmap_part_and_mapping"),
    Mutant(74, "an unmap may not end in the window", IOVA, "unmap_part unmap_part_and_mapping"),
    Mutant(86, "memory is mapped over the window", IOVA, "map_overlaps_window"),
    # Emulated devices
    Mutant(70, "vfio_pin_pages() takes the window for memory", PIN, "window border", options=""),
    Mutant(71, "vfio_dma_rw() takes the window for memory", PIN, "rw_window rw_border", options=""),
    Mutant(72, "the window is unmapped as if it were memory when the last IOMMU leaves", UNTRANSLATED, "detach_real", alone=True),
    # What is reported
    Mutant(80, "REGISTERED is not reported", IOVA, "geometry"),
    Mutant(81, "the default window's IOVA is reported for the window's", IOVA, "geometry"),
    Mutant(82, "the window is reported as free IOVA", IOVA, "iova_ranges"),
    Mutant(83, "a range that ends with the window is followed by an empty one", IOVA, "iova_ranges_edges"),
    Mutant(84, "the doorbells of the last domain are reported, not the most of any", DOMAINS, "busy"),
    Mutant(88, "where default windows differ, one of them is reported", RESV, "windows_differ"),
    Mutant(85, "the extension is not reported", IOVA, "extension"),
    # iommufd
    Mutant(100, "a replace that failed drops the reserved regions", MOCK, "failing_replace"),
    Mutant(102, "doorbells stay in the HWPT that a group leaves", MOCK, "doorbells_leave", alone=True),
    Mutant(103, "an attach that failed leaves doorbells behind", MOCK, "failing_attach", alone=True),
    Mutant(104, "a doorbell that does not fit is mapped behind the window", MOCK, "default_window_full window_full"),
    Mutant(105, "ids of doorbells are never free again", MOCK, "ids_are_reused", alone=True),
    Mutant(106, "CHOSEN is not reported", MOCK, "window_get"),
    Mutant(130, "with a window chosen, TRANSLATED is not reported", MOCK, "window_get"),
    Mutant(107, "a window over memory is accepted", MOCK, "window_set_errors"),
    Mutant(108, "a window over an allowed range is accepted", MOCK, "window_set_errors"),
    Mutant(109, "a window over a reserved region is accepted", MOCK, "window_set_errors"),
    Mutant(110, "a window moves under a doorbell", MOCK, "window_instead_of_default", alone=True),
    Mutant(111, "default windows stay reserved", MOCK, "window_instead_of_default"),
    Mutant(112, "doorbells are mapped in the default window", MOCK, "window_instead_of_default"),
    Mutant(113, "a group is attached where its doorbells are not at home", MOCK, "window_replace", alone=True),
    Mutant(114, "a region of a new device may be over the window", MOCK, "window_in_the_way"),
    Mutant(115, "a new device reserves its default window", MOCK, "window_instead_of_default"),
    Mutant(116, "memory in a default window is not looked for", MOCK, "window_instead_of_default", alone=True),
    Mutant(117, "an allowed range in a default window is not looked for", MOCK, "window_instead_of_default", alone=True),
    Mutant(118, "a window goes from under a doorbell", MOCK, "window_instead_of_default", alone=True),
    Mutant(119, "default windows are never reserved again", MOCK, "window_instead_of_default", alone=True),
    Mutant(120, "a window need not be aligned", MOCK, "window_cmd window_set_errors"),
    Mutant(121, "a window may wrap around", MOCK, "window_cmd window_set_errors", alone=True),
    Mutant(122, "flags are accepted", MOCK, "window_cmd"),
    Mutant(123, "a range is accepted where there is none to give", MOCK, "window_cmd window_set_errors window_moves"),
    Mutant(131, "the window of a device that left stays that of its group", MOCK, "group_forgets_window"),
    # Its compatibility container
    Mutant(124, "errors are those of iommufd, not of type1, for registering", MOCK, "msi_window_errors"),
    Mutant(132, "errors are those of iommufd, not of type1, for releasing", MOCK, "msi_window_errors msi_window"),
    Mutant(125, "mapping over the window fails as over anything reserved", MOCK, "msi_window"),
    Mutant(126, "a second window moves the first", MOCK, "msi_window_errors msi_window"),
    Mutant(127, "another range releases the window", MOCK, "msi_window_errors msi_window"),
    Mutant(128, "the extension is not reported", MOCK, "msi_window"),
    Mutant(129, "other flags are accepted beside the window's", MOCK, "msi_window_errors"),
)

# The same mistakes once more, where there are emulated devices: number -> tests of UNTRANSLATED.
EMULATED = {
    20: "arguments",
    25: "second_window",
    26: "overlaps_mapping",
    29: "dma_avail",
    42: "dma_avail",
    50: "emulated_first",
    51: "default_in_use",
    60: "unmap_all unmap_more",
    68: "dirty_tracking",
    80: "anywhere",
    86: "map_overlaps_window",
}
MUTANTS += tuple(
    dataclasses.replace(mutant, program=UNTRANSLATED, tests=EMULATED[mutant.number], options=V2_ONLY)
    for mutant in MUTANTS if mutant.number in EMULATED
)

# And once more, for a test that has no idea of any of them.
UNAWARE = (27, 47, 49, 60, 69, 73)
MUTANTS += tuple(
    dataclasses.replace(mutant, program=MODEL, tests="", options="")
    for mutant in MUTANTS if mutant.number in UNAWARE and mutant.program == IOVA
)


# In the guest: NUMBER and the name of a result, then a command. The console knows what was tried when it complains.
TRY = """
insmod vfio_pin.ko
insmod iommu_resv.ko
try() {
	number=$1 name=$2
	shift 2
	echo "mutant $number: $name" >/dev/kmsg
	echo "$number" >/sys/module/vfio_iommu_type1/parameters/mutant
	"$@" >"/mnt/$name" 2>&1
	echo "ended with $?" >>"/mnt/$name"
	echo 0 >/sys/module/vfio_iommu_type1/parameters/mutant
	echo "tried $name"
}
"""

SKIPPED = "skips-all"  # a program that does nothing

# FIXTURE.VARIANT.TEST or, from KUnit, TEST
POINT = re.compile(r"\s*(not )?ok \d+ (?:- )?(?:\S+\.)?(\S+)(.*)$")


@dataclasses.dataclass
class Verdict:
    caught: str  # by what
    ok: bool


def cases(name):
    """test -> "ok", "not ok" or "skip" of a result, the worst of all variants; and whether the program came to its end."""
    found, ended = {}, False
    if not os.path.exists(f"{OUT}/{name}"):
        return found, ended
    with open(f"{OUT}/{name}", encoding="utf-8", errors="replace") as file:
        for line in file:
            ended |= line.startswith("ended with ")
            if line.startswith("1..0 # SKIP"):
                found[SKIPPED] = "not ok"  # as in tests/run.py
            if match := POINT.match(line):
                negative, test, rest = match.groups()
                outcomes = {found.get(test, "skip"), "not ok" if negative else "skip" if "# SKIP" in rest else "ok"}
                found[test] = next(outcome for outcome in ("not ok", "ok", "skip") if outcome in outcomes)
    return found, ended


def boot(what, script, append=""):
    """Run a script, and return the exit status and what lab/run had to say."""
    command = ["lab/run", "--kernel", "mutants", "--share", OUT, "--append", append, "--timeout", "900", "--", "sh", "-c", TRY + script]
    with open(f"build/logs/mutants-{what}.log", "w", encoding="utf-8") as log:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False).returncode
    with open(f"build/logs/mutants-{what}.log", encoding="utf-8", errors="replace") as log:
        return status, log.read()


def judge(mutant, complaint=""):
    """Whether what was tried with a mutant noticed it."""
    found, ended = cases(mutant.name)
    failed = [test for test in (f"{mutant.tests} {SKIPPED}".split() if mutant.tests else found) if found.get(test) == "not ok"]
    missing = [test for test in mutant.tests.split() if found.get(test, "skip") == "skip"]
    if complaint:
        return Verdict(f"the kernel: {complaint}", True)
    if failed:
        return Verdict(f"{mutant.program}: {' '.join(failed)}", True)
    if not ended:
        return Verdict("NOT RUN TO ITS END: give it a boot of its own (alone)", False)
    if missing:
        return Verdict(f"NOT RUN: {mutant.program} has no test {' '.join(missing)}, or skipped it", False)
    return Verdict("NOTHING", False)


def try_alone(mutant):
    # KUnit tests are wrong from the beginning, and others must not be noticed by them.
    append = f"vfio_iommu_type1.mutant={mutant.number}" if mutant.program == KUNIT else ""
    status, said = boot(mutant.name, f"try {mutant.number} {mutant.name} {mutant.command}", append)
    complaint = ""
    if status == 70 and mutant.program != KUNIT:
        # lab/run says where the console is; a line with a reason in it follows the "cut here" line, if there is one.
        lines = [line.strip() for line in said.partition("lab/run: ")[2].splitlines()[1:] if "cut here" not in line]
        complaint = re.sub(r"^\[ *\d+\.\d+\] ", "", lines[0]) if lines else "?"
    return {mutant: judge(mutant, complaint)}


def without_a_mistake(mutants):
    """As few runs as possible of all the tests that are named for these."""
    wanted = {}
    for mutant in mutants:
        wanted.setdefault((mutant.program, mutant.options), set()).update(mutant.tests.split() or [""])
    return [Mutant(0, "nothing", program, "" if "" in tests else " ".join(sorted(tests)), options=options)
            for (program, options), tests in wanted.items()]


def try_together(number, none, mutants):
    """One mistake after the other, and none at all before and after them: what they left behind must not be noticed instead."""
    right = [(f"0.{number}.{when}.{i}", every) for when in ("before", "after") for i, every in enumerate(none)]
    lines = [f"try 0 {name} {every.command}" for name, every in right]
    lines[len(none) : len(none)] = [f"try {mutant.number} {mutant.name} {mutant.command}" for mutant in mutants]
    status, _ = boot(f"together-{number}", "\n".join(lines))
    verdicts = {mutant: judge(mutant) for mutant in mutants}
    trouble, passed = [], 0
    if status:
        trouble.append(f"the boot ended with {status}: see build/logs/mutants-together-{number}.log")
    for name, every in right:
        found, ended = cases(name)
        bad = [test for test, outcome in found.items() if outcome == "not ok"]
        passed += sum(1 for outcome in found.values() if outcome == "ok")
        if bad or not ended:
            trouble.append(f"WITHOUT A MISTAKE: {OUT}/{name}: {every.program}: {' '.join(bad) or 'not run to its end'}")
    verdicts[0, number] = Verdict("; ".join(trouble) or f"{passed} tests pass", not trouble)
    return verdicts


def show(number, what, verdict):
    print(f"{number:>3}  {what:70}  {'ok' if verdict.ok else 'FAILED':6}  {verdict.caught}", flush=True)


def disagreement():
    """What the patch and the table say differently, in words; nothing when they agree."""
    with open(PATCH, encoding="utf-8") as file:
        made = {int(number) for number in re.findall(r"^\+.*", file.read(), re.MULTILINE) for number in re.findall(r"MUTANT\((\d+)\)", number)}
    table = {mutant.number for mutant in MUTANTS}
    if made != table or len({mutant.name for mutant in MUTANTS}) != len(MUTANTS):
        return f"{PATCH} and the table in tests/mutants.py differ: {sorted(made ^ table)}"
    return ""


def main(numbers):
    if words := disagreement():
        sys.exit(f"mutants: {words}")
    chosen = [mutant for mutant in MUTANTS if not numbers or str(mutant.number) in numbers]
    if not chosen:
        sys.exit(f"mutants: no mutant has the number {' or '.join(numbers)}")
    shutil.rmtree(OUT, ignore_errors=True)
    shutil.copytree(MODULE, OUT)
    shutil.copytree(RANDOM, OUT, dirs_exist_ok=True)
    os.makedirs("build/logs", exist_ok=True)
    verdicts, ready = {}, []
    for mutant in chosen:
        if mutant.program != KUNIT and not any(os.path.exists(f"{where}/{mutant.program}") for where in (SELFTESTS, MODULE, RANDOM)):
            verdicts[mutant] = Verdict(f"NOT RUN: there is no {mutant.program}", False)
        else:
            ready.append(mutant)
    together, none = [mutant for mutant in ready if not mutant.own_boot], without_a_mistake(ready)
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        tries = [pool.submit(try_together, i, none[i::WORKERS], together[i::WORKERS]) for i in range(WORKERS)]
        tries += [pool.submit(try_alone, mutant) for mutant in ready if mutant.own_boot]
        for done, future in enumerate(concurrent.futures.as_completed(tries), 1):
            verdicts.update(future.result())
            print(f"mutants: {done}/{len(tries)} boots", flush=True)
    print(f"\n{'':3}  {'what is wrong':70}  {'':6}  noticed by")
    for key, verdict in verdicts.items():
        if isinstance(key, tuple):
            show(0, "nothing", verdict)
    for mutant in chosen:
        show(mutant.number, mutant.what, verdicts[mutant])
    wrong = sum(1 for verdict in verdicts.values() if not verdict.ok)
    print(f"\n{sum(1 for mutant in chosen if verdicts[mutant].ok)} of {len(chosen)} mutants noticed")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
