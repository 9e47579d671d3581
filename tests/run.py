# SPDX-License-Identifier: GPL-2.0-only
"""Run suites of suites.py, count every test case, and end with `N passed, N failed, N skipped`.

    run.py [--long|--lts] [PART-OF-A-NAME...]   only suites whose names contain one of these; --long: of those for which
                                                "make test" has no time; --lts: of those that judge the backport
    run.py --list ...                           their names, and on which kernel and machine they run
    run.py --builds ...                         the commands that build what they need

Called by tests/run in the tool root.  A suite is a program that prints TAP, in the guest or here.  It fails as a whole, as one
more failed case, when it does not run to the end of its plan, when its exit status and its results disagree, or when lab/run
says that the kernel complained (70) or time is up (124).
"""

import argparse
import concurrent.futures
import dataclasses
import os
import re
import subprocess
import sys
import threading
import time

from tests.suites import BUILDS, DIFFERENCES, ENDED, KNOWN, LEFT_OUT, LONG, LTS, OUT, TEST, Suite, boot, table

# A guest mostly waits, for devices that are being reset, but not always, and upstream's programs give each of their tests 30 s of
# real time. So there are a few guests, one more when the processors were idle for more than a share of these seconds, and one less
# when they hardly were. Each guest takes up to 2 GB of memory.
PROCESSORS = len(os.sched_getaffinity(0))
FEWEST, MOST = min(3 * PROCESSORS // 2, 8), min(4 * PROCESSORS, 8)
SECONDS, IDLE, BUSY = 8.0, 0.25, 0.05


@dataclasses.dataclass
class Result:
    suite: Suite
    cases: dict = dataclasses.field(default_factory=dict)  # name -> "passed", "failed" or "skipped"
    reasons: dict = dataclasses.field(default_factory=dict)  # name -> why it was skipped
    excused: set = dataclasses.field(default_factory=set)  # failed, as is known, and counted as skipped
    errors: list = dataclasses.field(default_factory=list)  # of the suite as a whole
    seconds: float = 0.0
    log: str = ""  # of the lab

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


def split(text, status, suites):
    """What each suite of a boot printed, its exit status, and how long it took, from what the guest printed."""
    ends = list(re.finditer(rf"^{ENDED} (\d+) ([\d.]+)\n", text, re.MULTILINE))
    for number, suite in enumerate(suites):
        before, end = (ends[at] if at < len(ends) else None for at in (number, number + 1))
        printed = text[before.end() : end.start() if end else None] if before else ""
        ended = int(end[1]) if end else 71
        # A complaint may be about any of them. Whatever else went wrong did so in the one that did not end, or after the last.
        if status and (status == 70 or not end or suite is suites[-1]):
            ended = status
        yield suite, printed, ended, float(end[2]) - float(before[2]) if end else 0.0


def run(suites, running):
    """The results of one suite, or of some in one boot."""
    name = " + ".join(suite.name for suite in suites)
    start = running[name] = time.monotonic()
    out, err = (log_name(suites[0], kind) for kind in ("tap", "log"))
    with open(out, "wb") as out_file, open(err, "wb") as err_file:
        command = boot(suites) if suites[0].kernel else suites[0].command
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out_file, stderr=err_file, check=False).returncode
    elapsed = time.monotonic() - start
    with open(out, encoding="utf-8", errors="replace") as file:
        text = file.read()
    parts = split(text, status, suites) if suites[0].kernel else [(suites[0], text, status, elapsed)]
    results = []
    for suite, printed, ended, seconds in parts:
        result = Result(suite, seconds=seconds, log=err)
        with open(log_name(suite, "tap"), "w", encoding="utf-8") as file:
            file.write(printed)
        parse(printed, result)
        judge(ended, result)
        excuse(result)
        results.append(result)
    del running[name]
    return results


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
        print(f"    FAILED {error}: see also {result.log}")
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


class Guests:
    """How many may run at once."""

    def __init__(self):
        self.allowed = FEWEST
        self.idle, self.total = self.read()
        self.since = time.monotonic()

    @staticmethod
    def read():
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, idle, waiting, *interrupts = map(int, file.readline().split()[1:9])
        return idle + waiting, sum((user, nice, system, idle, waiting, *interrupts))

    def look(self, running):
        """Every few seconds, at what the processors did since the last time."""
        if time.monotonic() - self.since < SECONDS:
            return
        idle, total = self.read()
        share = (idle - self.idle) / (total - self.total)
        if share > IDLE and running >= self.allowed:
            self.allowed = min(self.allowed + 1, MOST)
        elif share < BUSY:
            self.allowed = max(self.allowed - 1, FEWEST)
        self.idle, self.total, self.since = idle, total, time.monotonic()


def finished(waiting, running):
    """Runs the units that wait, and yields the results of each."""
    guests = Guests()
    futures = set()
    with concurrent.futures.ThreadPoolExecutor(MOST) as pool:
        while waiting or futures:
            guests.look(len(futures))
            while waiting and len(futures) < guests.allowed:
                futures.add(pool.submit(run, waiting.pop(0), running))
            done, futures = concurrent.futures.wait(futures, 1, concurrent.futures.FIRST_COMPLETED)
            for future in done:
                yield future.result()


def show_progress(running, done, total, stop):
    """Suites take minutes: say every so often what is being waited for."""
    start = time.monotonic()
    terminal = sys.stdout.isatty()
    while not stop.wait(1 if terminal else 30):
        elapsed = time.monotonic() - start
        text = f"{elapsed // 60:.0f}:{elapsed % 60:02.0f} {len(done)}/{total} suites done, running: {', '.join(sorted(running))}"
        print(f"\r\033[K{text[: os.get_terminal_size().columns - 1]}\r" if terminal else f"... {text}", end="" if terminal else "\n", flush=True)


def chosen(wanted, which):
    """Those that are asked for, and those that they are compared with."""
    everything = {suite.name: suite for suite in table()}
    suites = [suite for suite in everything.values() if suite.which == which and (not wanted or any(word in suite.name for word in wanted))]
    names = {suite.name for suite in suites}
    return suites + [suite for suite in everything.values() if suite.name in {suite.compare for suite in suites} - names]


def none(wanted, which):
    more = "" if which else f"; there are more with {LONG} and {LTS}"
    return f"tests/run: no suite has {' or '.join(wanted)} in its name{more}: tests/run --list"


# Suites have the names of the programs that were built.
PROGRAMS = ("lab/build selftests stock", "lab/build selftests patched")


def built():
    return all(os.path.isdir(command.replace("lab/build ", "build/").replace(" ", "/")) for command in PROGRAMS)


def show(wanted, which):
    """The names, for who wants to choose."""
    if not built():
        print("tests/run: there are more of them after 'make selftests'", file=sys.stderr)
    suites = chosen(wanted, which)
    if not suites:
        sys.exit(none(wanted, which))
    for suite in suites:
        print(f"{suite.name:46} {' on '.join(filter(None, (suite.kernel, suite.machine))) or 'here'}")


def show_builds(wanted, which):
    """One command a line. The last line is `again` if there may be more suites when they are done."""
    known = all(any(word in suite.name for suite in table() if suite.which == which) for word in wanted or [""])
    if not (wanted and known) and not built():
        print("\n".join((*PROGRAMS, "again")))
        return
    commands = {command for suite in chosen(wanted, which) for command in suite.builds}
    if not wanted:
        commands.update(PROGRAMS)
    for command in sorted(commands, key=lambda command: next((place, command) for place, start in enumerate(BUILDS) if command.startswith(start))):
        print(command)


def units(suites):
    """Those that are run alone, and those that share a boot, in the order of the first of them."""
    found = {}
    for suite in suites:
        found.setdefault(suite.name if suite.alone else suite.place, []).append(suite)
    return list(found.values())


def main(wanted, which):
    os.makedirs(OUT, exist_ok=True)
    suites = chosen(wanted, which)
    if not suites:
        sys.exit(none(wanted, which))
    running, results, stop = {}, {}, threading.Event()
    threading.Thread(target=show_progress, args=(running, results, len(suites), stop), daemon=True).start()
    for unit in finished(units(suites), running):
        for result in unit:
            results[result.suite.name] = result
            if sys.stdout.isatty():
                print("\033[K", end="")
            report(result)
    stop.set()
    everything = [*results.values(), *compare(results)]
    if not wanted:
        print("\nleft out: " + "; ".join(f"{program} ({reason})" for program, reason in LEFT_OUT.items()))
    passed, failed, skipped = (sum(result.count(outcome) for result in everything) for outcome in ("passed", "failed", "skipped"))
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="tests/run", usage="tests/run [--list] [--long|--lts] [PART-OF-A-NAME...]")
    group = parser.add_mutually_exclusive_group()
    for option in (LONG, LTS):
        group.add_argument(option, dest="which", action="store_const", const=option, default=TEST)
    for option, what in (("--list", show), ("--builds", show_builds)):
        parser.add_argument(option, dest="do", action="store_const", const=what, default=main)
    parser.add_argument("words", nargs="*")
    arguments = parser.parse_args()
    arguments.do(arguments.words, arguments.which)
