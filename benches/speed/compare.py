#!/usr/bin/env python3
"""Compares allocators on the patterns of micro.c, one process each, in turns.

compare.py BUILD [--out FILE] [--rounds N] [--only WORD] [--allocators A,B] [--extra NAME=LIBRARY]...

Prints medians over the rounds, and the largest half distance between quartiles of a row's times.
--out saves every run as a line of CSV: pattern, allocator, round, allocation_ns (with the free if
both are timed together), free_ns, total_ns, peak_mib."""

import argparse
import statistics
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from allocators import Part, containing, environment, find, in_turn, positive, spread  # noqa: E402

PATTERNS = [
    *(("pair", str(8 << shift)) for shift in range(0, 23, 2)),
    *(("bulk", size, order) for size in ("16", "64", "256", "2048")
      for order in ("same", "reverse", "random")),
    *(("replace", live) for live in ("1000", "100000", "1000000")),
    ("sweep", "6000"), ("moving", "50000"), ("holes", "200"),
    *(("touch", str(2 << 20 << shift), threads) for threads in ("1", "4") for shift in range(7)),
    *(("growth", size) for size in ("65536", "1048576", "67108864")),
]
Sample = namedtuple("Sample", "pattern allocator round allocation_ns free_ns total_ns peak_mib")


def measure(build, libraries, pattern, rounds, part, first=0):
    """Runs a pattern on all libraries, in turns; `first` is where they begin."""
    micro = Path(build) / "benches" / "micro"
    label = " ".join(pattern)
    for turn in range(rounds):
        for name, library in in_turn(libraries.items(), first + turn):
            print(f"\r{label} [{turn + 1}/{rounds}] {name:12}", end="", file=sys.stderr)
            done = subprocess.run([micro, *pattern], env=environment(library),
                                  capture_output=True, text=True)
            if done.returncode != 0:
                part.fail(f"{label} on {name}: status {done.returncode}, {done.stderr}")
                continue
            allocation, freeing, kib = (float(word) for word in done.stdout.split())
            part.keep(Sample(label, name, turn, allocation, freeing, allocation + freeing, kib / 1024))
    print("\r" + " " * 50 + "\r", end="", file=sys.stderr)


def row(samples, names):
    """A line of the table."""
    cells = []
    widest = 0
    for name in names:
        mine = [sample for sample in samples if sample.allocator == name]
        if not mine:
            cells.append(f"{'-':>22}")
            continue
        allocation, freeing, peak = (
            statistics.median(getattr(sample, column) for sample in mine)
            for column in ("allocation_ns", "free_ns", "peak_mib"))
        time = f"{allocation:.1f} + {freeing:.1f}" if freeing else f"{allocation:.1f}"
        cells.append(f"{time:>16} {peak:>5.0f}")
        widest = max(widest, spread([sample.total_ns for sample in mine]))
    return " ".join([f"{samples[0].pattern:28}", *cells, f"{widest:>6.1f} %"])


def main():
    labels = {" ".join(pattern): pattern for pattern in PATTERNS}
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="folder with libvalloc-override.so and benches/micro")
    parser.add_argument("--out", help="file for the samples")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--only", default=list(labels), type=containing(labels),
                        help="patterns that contain this word")
    parser.add_argument("--allocators", type=lambda text: text.split(","))
    parser.add_argument("--extra", action="append", default=[])
    options = parser.parse_args()
    libraries = find(options.build, options.allocators, options.extra)
    print("ns per operation (allocation + free; one figure: both together), peak MiB")
    print(f"{'':28}", *(f"{n:>22}" for n in libraries), f"{'spread':>8}")
    with Part(options.out, Sample._fields) as part:
        for place, label in enumerate(options.only):
            measure(options.build, libraries, labels[label], options.rounds, part, place)
            mine = [sample for sample in part.samples if sample.pattern == label]
            if mine:
                print(row(mine, libraries), flush=True)
    part.end()


if __name__ == "__main__":
    main()
