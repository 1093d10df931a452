#!/usr/bin/env python3
"""Compares allocators on the patterns of micro.c, in turns; medians; ratios to valloc.

compare.py BUILD [--rounds N] [--only WORD] [--allocators A,B] [--extra NAME=LIBRARY]..."""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from allocators import environment, find, in_turn

PATTERNS = [
    *(("pair", str(8 << shift)) for shift in range(0, 23, 2)),
    *(("bulk", size, order) for size in ("16", "64", "256", "2048")
      for order in ("same", "reverse", "random")),
    *(("replace", live) for live in ("1000", "100000", "1000000")),
    *(("touch", str(2 << 20 << shift), threads) for threads in ("1", "4") for shift in range(7)),
    *(("growth", size) for size in ("65536", "1048576", "67108864")),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", help="folder with libvalloc-override.so and benches/c/micro")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="patterns that contain this word")
    parser.add_argument("--allocators", type=lambda text: text.split(","))
    parser.add_argument("--extra", action="append", default=[])
    options = parser.parse_args()
    libraries = find(options.build, options.allocators, options.extra)
    micro = Path(options.build) / "benches" / "c" / "micro"
    print(f"{'ns per operation (allocation + free); MiB':42}", *(f"{n:>22}" for n in libraries))
    for pattern in PATTERNS:
        label = " ".join(pattern)
        if options.only not in label:
            continue
        samples = {name: [] for name in libraries}
        for turn in range(options.rounds):
            for name, library in in_turn(libraries.items(), turn):
                done = subprocess.run([micro, *pattern], env=environment(library),
                                      capture_output=True, text=True)
                if done.returncode != 0:
                    sys.exit(f"{name}: {label}: {done.stderr}")
                samples[name].append([float(word) for word in done.stdout.split()])
        medians = {name: [statistics.median(column) for column in zip(*rows)]
                   for name, rows in samples.items()}
        cells = []
        for allocation, freeing, kib in medians.values():
            time = f"{allocation:.1f} + {freeing:.1f}" if freeing else f"{allocation:.1f}"
            cells.append(f"{time:>16} {kib / 1024:>5.0f}")
        print(f"{label:42}", *cells, flush=True)


main()
