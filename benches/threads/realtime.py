#!/usr/bin/env python3
"""The slowest calls of malloc and free under SCHED_FIFO, where the process may have that, by
LD_PRELOAD, in turns: realtime.c with one thread and two.

realtime.py BUILD [--out FILE] [--rounds N] [--operations N] [--only WORD] [--allocators A,B]
            [--extra NAME=LIBRARY]...

Prints medians over the rounds of the slowest call and of the tenth slowest in microseconds, and what
the slowest is times that of glibc. --out keeps every run as a line of CSV: pattern, threads,
allocator, round, slowest_ns, tenth_ns, hundredth_ns, thousandth_ns."""

import argparse
import os
import statistics
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from allocators import Part, containing, environment, find, in_turn, positive  # noqa: E402

PATTERNS = ["small", "large", "waves"]
Sample = namedtuple(
    "Sample", "pattern threads allocator round slowest_ns tenth_ns hundredth_ns thousandth_ns")


def become_real_time():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))


def may_be_real_time():
    try:
        return subprocess.run(["true"], preexec_fn=become_real_time).returncode == 0
    except subprocess.SubprocessError:
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="folder with libvalloc-override.so")
    parser.add_argument("--out", help="file for the samples")
    parser.add_argument("--rounds", type=positive, default=7)
    parser.add_argument("--operations", type=positive, default=10_000_000)
    parser.add_argument("--only", type=containing(PATTERNS), default=PATTERNS)
    parser.add_argument("--allocators", type=lambda text: text.split(","))
    parser.add_argument("--extra", action="append", default=[])
    options = parser.parse_args()
    libraries = find(options.build, options.allocators, options.extra)
    program = Path(options.build) / "benches" / "realtime"
    scheduler = become_real_time if may_be_real_time() else None
    print("under SCHED_FIFO" if scheduler else "under the usual scheduler: no right to SCHED_FIFO")
    print("the slowest call, the tenth slowest, in microseconds; the slowest times glibc's")
    print(f"{'':16}", *(f"{name:>24}" for name in libraries))
    with Part(options.out, Sample._fields) as part:
        for pattern in options.only:
            for threads in (1, 2):
                for turn in range(options.rounds):
                    for name, library in in_turn(libraries.items(), turn):
                        done = subprocess.run(
                            [program, pattern, str(threads), str(options.operations)],
                            env=environment(library), capture_output=True, text=True,
                            preexec_fn=scheduler)
                        if done.returncode != 0:
                            part.fail(f"{pattern} on {name}: {done.returncode} {done.stderr}")
                            continue
                        part.keep(Sample(pattern, threads, name, turn, *map(int, done.stdout.split()[:4])))
                medians = {}
                for name in libraries:
                    mine = [s for s in part.samples if s[:3] == (pattern, threads, name)]
                    if mine:
                        medians[name] = [statistics.median(s[column] for s in mine) for column in (4, 5)]
                cells = []
                for name in libraries:
                    slowest, tenth = medians.get(name, (0, 0))
                    times = f"{slowest / medians['glibc'][0]:.2f}" if "glibc" in medians else "-"
                    cells.append(f"{slowest / 1000:>9.0f} {tenth / 1000:>8.0f} {times:>5}")
                print(f"{pattern:8} {threads} thr. ", *cells, flush=True)
    part.end()


if __name__ == "__main__":
    main()
