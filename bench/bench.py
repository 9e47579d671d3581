# SPDX-License-Identifier: GPL-2.0-only
"""Instructions per operation of VFIO type1 and iommufd, on the stock kernel and on ours: measures, compares, prints, draws, and
fails above the bars.

Called by bench/run in the tool root, with everything built. bench.c says what is measured and how; each run of it goes to
build/bench/KERNEL.json, the table also to build/bench/table.txt, and it is drawn into docs/bench.svg: two runs give the same files.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass

from lab.kernel.kernels import SOURCES
from lab.tree import tree

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

OUT = "build/bench"
COMPARED = ("stock", "patched")

# What those pay who do not use a window, or have one: patched over stock.
RATIO = 1.01
EXEMPT = {"GET_INFO": "it reports one capability more"}
# A doorbell leaves an HWPT with the last group that has MSIs, and is mapped again with the first: stock never unmaps it, so it is in
# the way of what is mapped there next. With one domain this is what it takes.
DOORBELL_MAP = 600
DOORBELL_UNMAP = 860
# Instructions more, where an operation is so short that one comparison is more than that ratio, or does more than stock's.
MORE = {
    "CHECK_EXTENSION": 8,
    "attach to HWPT, MSI": DOORBELL_MAP,
    "detach from HWPT, MSI": DOORBELL_UNMAP,
    "detach, last of its HWPT, MSI": DOORBELL_UNMAP,
    "replace within IOAS, MSI": DOORBELL_UNMAP + DOORBELL_MAP,
    "replace between IOASes, MSI": DOORBELL_UNMAP + DOORBELL_MAP,
    # What the device has reserved is looked for in two places: default windows are not reserved.
    "detach from HWPT, with a window": 130,
    "detach, not the last of its HWPT, with a window": 130,
}
# Registering and releasing a window together, in mappings of 4 KiB in as many domains.
WINDOW_MAPS = 3
WINDOWS = (("register", "release", "MAP_DMA 4 KiB"), ("MSI_WINDOW SET", "MSI_WINDOW CLEAR", "IOAS_MAP 4 KiB"))
COOKIE_GROWTH = 24

WIDTHS = (8, 10, 12, 12, 9, 12, 12, 9)  # of the table's columns

# The guest's programs must not be laid out at random; the memory that is mapped is one page of 1 GiB.
ARGUMENTS = "norandmaps hugepagesz=1G hugepages=1"
COMMAND = "uname -r && cp bench /tmp && exec /tmp/bench $VFIO_IGB_BDFS $VFIO_EDU_BDF $VFIO_VECTORS_BDF"


class BenchError(Exception):
    pass


@dataclass(frozen=True)
class Row:
    """What the cost is of; the window is a column."""

    operation: str
    domains: int
    mappings: int

    def __str__(self):
        return f"{self.operation}, {self.domains} domain{'s'[: self.domains != 1]}, {self.mappings} mappings"


def call(*command):
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        raise BenchError(f"{' '.join(command)}: exit status {result.returncode}, see above")
    return result.stdout


def measure(kernel):
    """The kernel's version, and {Row: [cost, cost with a window]}; None where there is none."""
    with tree.step(f"bench: {kernel}"):
        lines = call("lab/run", "--icount", "--kernel", kernel, "--share", OUT, "--append", ARGUMENTS, "--", "sh", "-c", COMMAND).splitlines()
    figures = {}
    for line in lines[1:]:
        operation, domains, mappings, window, cost = line.split("\t")
        row = figures.setdefault(Row(operation, int(domains), int(mappings)), [None, None])
        if row[int(window)] is not None:
            raise BenchError(f"bench.c prints a row twice: {line}")
        row[int(window)] = int(cost)
    return lines[0], figures


def sizes(kernel):
    said = call(
        "lab/in-root", "--bind", SOURCES[kernel].path, "/src", "--bind", f"build/kernel/{kernel}", "/out", "python3", "bench/sizes.py"
    )
    return {name: int(size) for name, size in map(str.split, said.splitlines())}


def bloat():
    """What bloat-o-meter says of vmlinux, without its list of functions."""
    said = call(f"{SOURCES['patched'].path}/scripts/bloat-o-meter", "-p", "aarch64-linux-gnu-", "build/kernel/stock/vmlinux", "build/kernel/patched/vmlinux")
    lines = said.splitlines()
    return [lines[0], lines[-1]]


def save(kernel, base, version, figures, structures):
    content = {
        "kernel": version,
        "base": base,
        "sizes": structures,
        "instructions": [
            {"operation": row.operation, "domains": row.domains, "mappings": row.mappings, "window": bool(window), "instructions": cost}
            for row, costs in figures.items()
            for window, cost in enumerate(costs)
            if cost is not None
        ],
    }
    tree.write(f"{OUT}/{kernel}.json", json.dumps(content, indent=1) + "\n")


def order(figures):
    """By operation, as they are first met, then domains, then mappings."""
    operations = list(dict.fromkeys(row.operation for row in figures))
    return sorted(figures, key=lambda row: (operations.index(row.operation), row.domains, row.mappings))


def cell(value):
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else f"{value:,}"


def line(first, *others):
    words = (word if isinstance(word, str) else cell(word) for word in others)
    return (f"{first:44}" + "".join(f"{word:>{width}}" for word, width in zip(words, WIDTHS))).rstrip()


def table(stock, patched, failed):
    """The table's lines. Appends to failed what is above a bar."""
    lines = [line("operation", "domains", "mappings", "stock", "patched", "ratio", "stock, +1", "window", "ratio")]
    previous = None
    for row in order(patched):
        if row.operation != previous:
            lines.append("")
        previous = row.operation
        before = stock.get(row, [None, None])
        # A window is an entry among the mappings: for those who map, stock has one more of these instead.
        compared = [before[0], before[1] or before[0]]
        ratios = [now / then if then and now else None for then, now in zip(compared, patched[row])]
        lines.append(line(row.operation, row.domains, row.mappings, before[0], patched[row][0], ratios[0], before[1], patched[row][1], ratios[1]))
        for then, now, ratio, where in zip(compared, patched[row], ratios, ("", ", with a window")):
            if not ratio or row.operation in EXEMPT:
                continue
            more = MORE.get(row.operation, MORE.get(f"{row.operation}{where}"))
            if more is not None:
                if now - then > more:
                    failed.append(f"{row}{where}: {now - then} instructions more than stock takes, more than {more}")
            elif ratio > RATIO:
                failed.append(f"{row}{where}: {ratio:.4f} times what stock takes, more than {RATIO}")
    return lines


def check_window(patched, failed):
    """A window's coming and going, in mappings."""
    lines = []
    for comes, goes, mapping in WINDOWS:
        lines += ["", line(f"{comes} and {goes.split()[-1]}", "domains", "mappings", "together", mapping.split()[0], "ratio")]
        for row in order(patched):
            if row.operation != comes:
                continue
            together = patched[row][0] + patched[Row(goes, row.domains, row.mappings)][1]
            one = patched[Row(mapping, row.domains, row.mappings)][0]
            lines.append(line("", row.domains, row.mappings, together, one, together / one))
            if together > WINDOW_MAPS * one:
                failed.append(f"{row}: with {goes} {together / one:.4f} times {mapping}, more than {WINDOW_MAPS}")
    return lines


def check_sizes(stock, patched, failed):
    lines = ["", line("struct, in bytes", "", "", "stock", "patched", "more")]
    for name in patched:
        lines.append(line(name, "", "", stock[name], patched[name], patched[name] - stock[name]))
    if patched["vfio_dma"] != stock["vfio_dma"]:
        failed.append(f"struct vfio_dma: {patched['vfio_dma']} bytes, not {stock['vfio_dma']}")
    for name in ("iommu_dma_cookie", "iommu_dma_msi_cookie"):
        if patched[name] > stock[name] + COOKIE_GROWTH:
            failed.append(f"struct {name}: {patched[name] - stock[name]} bytes more, more than {COOKIE_GROWTH}")
    return lines


def draw(stock, patched):
    """docs/bench.svg: cost by number of domains, and by number of mappings."""
    curves = {
        "map 4 KiB, stock": lambda *where: stock[Row("MAP_DMA 4 KiB", *where)][0],
        "map 4 KiB": lambda *where: patched[Row("MAP_DMA 4 KiB", *where)][0],
        "map 4 KiB, window registered": lambda *where: patched[Row("MAP_DMA 4 KiB", *where)][1],
        "register a window": lambda *where: patched[Row("register", *where)][0],
        "release it": lambda *where: patched[Row("release", *where)][1],
    }
    places = [(row.domains, row.mappings) for row in patched if row.operation == "register"]
    domains, mappings = (sorted(set(values)) for values in zip(*places))
    for name, wheres, label in (
        ("domains", [(value, mappings[0]) for value in domains], 0),
        ("mappings", [(domains[-1], value) for value in mappings], 1),
    ):
        text = " ".join(f'"{word}"' for word in (name, *curves)) + "\n"
        for where in wheres:
            text += " ".join(str(word) for word in (f'"{where[label]:,}"', *(cost(*where) for cost in curves.values()))) + "\n"
        tree.write(f"{OUT}/{name}.dat", text)
    subprocess.run(["gnuplot", "bench/bench.gnuplot"], check=True)
    os.replace(f"{OUT}/bench.svg", "docs/bench.svg")


def main():
    base = tree.Tree(SOURCES["stock"].base).source()[1]
    versions, figures, structures, failed = {}, {}, {}, []
    for kernel in COMPARED:
        versions[kernel], figures[kernel] = measure(kernel)
        structures[kernel] = sizes(kernel)
        save(kernel, base, versions[kernel], figures[kernel], structures[kernel])
    stock, patched = figures.values()
    lines = [f"{base}: {versions['stock']} and {versions['patched']}, in instructions", ""]
    lines += table(stock, patched, failed)
    lines += check_window(patched, failed)
    lines += check_sizes(*structures.values(), failed)
    lines += ["", "vmlinux, stock to patched, in bytes:", *bloat()]
    text = "\n".join(lines) + "\n"
    tree.write(f"{OUT}/table.txt", text)
    print(f"\n{text}")
    draw(stock, patched)
    for why in failed:
        print(f"bench: {why}", file=sys.stderr)
    print(f"bench: {len(failed)} above the bars" if failed else "bench: nothing is above the bars")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    try:
        main()
    except (BenchError, tree.TreeError, subprocess.CalledProcessError) as error:
        sys.exit(f"bench: {error}")
