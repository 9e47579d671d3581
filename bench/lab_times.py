# SPDX-License-Identifier: GPL-2.0-only
"""The table of what bench/lab measured: lab_times.py FILE, with lines of step, state and seconds."""

import statistics
import sys


def summary(seconds):
    if not seconds:
        return ""
    return f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"


def main(path):
    times = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            step, state, seconds = line.rstrip("\n").split("\t")
            times.setdefault(step, {"cold": [], "warm": []})[state].append(float(seconds))
    print(f"\n{'seconds, median (and spread): noisy':36}{'cold':>24}{'warm':>24}")
    for step, states in times.items():
        print(f"{step:36}{summary(states['cold']):>24}{summary(states['warm']):>24}")


if __name__ == "__main__":
    main(sys.argv[1])
