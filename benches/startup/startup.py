#!/usr/bin/env python3
"""Measures the cost of preloading an allocator for small programs, in turns.

startup.py BUILD [--out FILE] [--rounds N] [--allocators A,B] [--extra NAME=LIBRARY]...

Prints medians of processor time (user and system, with children), also as a multiple of the program
without preloading, and the additional KiB of resident memory at the peak of the program's largest
process. `empty` is a library without code: the dynamic loader's cost of any library. --out saves
every run as a line of CSV: program, allocator, round, cpu_us, peak_kib. A round has many runs of the
shortest programs."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from allocators import Part, find, in_turn, positive, spread  # noqa: E402

# Name -> how many runs make one round, command.
PROGRAMS = {
    "true": (20, ["/bin/true"]),
    "ls": (20, ["/bin/ls", "/"]),
    "500 forks": (1, ["/bin/sh", "-c", "i=0; while [ $i -lt 500 ]; do (:); i=$((i+1)); done"]),
    "500 commands": (1, ["/bin/sh", "-c",
                         "i=0; while [ $i -lt 500 ]; do /bin/true; i=$((i+1)); done"]),
}
BARE = "nothing"
Sample = namedtuple("Sample", "program allocator round cpu_us peak_kib")


def compile(folder, name, *arguments):
    made = str(Path(folder) / name)
    subprocess.run(["cc", *arguments, "-o", made], check=True)
    return made


def measure(launch, libraries, program, rounds, part):
    runs, command = PROGRAMS[program]
    failed = set()
    for turn in range(rounds * runs):
        for name, library in in_turn(libraries.items(), turn):
            if name in failed:
                continue
            done = subprocess.run([launch, library, *command], capture_output=True, text=True)
            if done.returncode != 0:
                failed.add(name)
                part.fail(f"{program} on {name}: {done.stderr or 'it failed'}")
                continue
            part.keep(Sample(program, name, turn // runs, *map(int, done.stdout.split())))


def row(program, samples, names):
    """A line of the table."""
    mine = {name: [s for s in samples if s[:2] == (program, name)] for name in names}
    medians = {name: (statistics.median(s.cpu_us for s in runs),
                      statistics.median(s.peak_kib for s in runs))
               for name, runs in mine.items() if runs}
    cells = []
    for name in names:
        if name not in medians or BARE not in medians:
            cells.append(f"{'-':>24}")
            continue
        (time, peak), (bare_time, bare_peak) = medians[name], medians[BARE]
        above = f"{peak:.0f}" if name == BARE else f"{peak - bare_peak:+.0f}"
        cells.append(f"{time:>9.0f} {time / bare_time:>6.3f} {above:>7}")
    widest = max((spread([s.cpu_us for s in runs]) for runs in mine.values() if runs), default=0)
    return " ".join([f"{program:14}", *cells, f"{widest:>6.1f} %"])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="folder with libvalloc-override.so")
    parser.add_argument("--out", help="file for the samples")
    parser.add_argument("--rounds", type=positive, default=40)
    parser.add_argument("--allocators", type=lambda text: text.split(","))
    parser.add_argument("--extra", action="append", default=[])
    options = parser.parse_args()
    libraries = find(options.build, options.allocators, options.extra)
    libraries.pop("glibc", None)
    with tempfile.TemporaryDirectory() as folder:
        empty = compile(folder, "empty.so", "-shared", "-x", "c", os.devnull)
        launch = compile(folder, "launch", "-O2", "-static", Path(__file__).with_name("launch.c"))
        libraries = {BARE: "", "empty": empty, **libraries}
        print("microseconds of processor time, times that without preloading, KiB above its peak")
        print(f"{'':14}", *(f"{name:>24}" for name in libraries), f"{'spread':>8}")
        with Part(options.out, Sample._fields) as part:
            for program in PROGRAMS:
                measure(launch, libraries, program, options.rounds, part)
                print(row(program, part.samples, libraries), flush=True)
    part.end()


if __name__ == "__main__":
    main()
