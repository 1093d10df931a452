#!/usr/bin/env python3
"""Counts the instructions of every operation on each allocator by callgrind. They are the same in every
run, unless an allocator uses the clock or random numbers.

instructions.py BUILD [--out FILE] [--only WORD] [--allocators A,B] [--extra NAME=LIBRARY]...

Counts the instructions of a call outside the kernel, in any library. benches/speed/operations.c describes
the operations. --out writes CSV: operation (with its size and the call), allocator,
calls, instructions (of one call)."""

import argparse
import os
import sys
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
import callgrind  # noqa: E402
from allocators import Part, containing, find  # noqa: E402

OPERATIONS = [
    *(("pair", size) for size in (16, 64, 256, 4096, 65536, 1 << 20)),
    *(("calloc", size) for size in (64, 4096, 65536)),
    *(("aligned", size) for size in (64, 4096)),
    ("sized", 64),
    *(("growth", size) for size in (4096, 1 << 20)),
    ("resize", 64),
    *((operation, size) for operation in ("fresh", "ordered", "random", "remote", "exchange")
      for size in (64, 1024)),
    ("batch", 64),
    ("instance", 64),
]
FREES = ("free", "sized", "free_batch", "release")
Count = namedtuple("Count", "operation size call allocator calls instructions")


def label(operation, size):
    return f"{operation} {size}"


LABELS = [label(*operation) for operation in OPERATIONS]


def count(build, libraries, only=LABELS, fail=None):
    """Counts of these operations, by their labels, as many at a time as there are processors: other
    processes do not change them. fail: told of what failed, which ends all of it otherwise."""
    program = Path(build) / "benches" / "operations"
    jobs = [(operation, size, name) for operation, size in OPERATIONS
            if label(operation, size) in only for name in libraries]

    def run(job):
        operation, size, name = job
        try:
            profile = callgrind.count([program, operation, size], libraries[name])
        except RuntimeError as error:
            if fail is None:
                raise
            fail(f"{operation} {size} on {name}: {error}")
            profile = None
        if profile is None:
            return []
        return [Count(operation, size, call, name, calls, profile.costs[call] / calls)
                for call, calls in profile.calls.items()]

    counts = []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for done, (job, rows) in enumerate(zip(jobs, pool.map(run, jobs)), 1):
            print(f"\r[{done}/{len(jobs)}] instructions, {job[0]} {job[1]:<12}", end="",
                  file=sys.stderr)
            counts += rows
    print(file=sys.stderr)
    # What frees comes last, as in the program.
    return sorted(counts, key=lambda row: (OPERATIONS.index(row[:2]), row.call in FREES))


def title(row):
    return f"{row.operation} {row.size}: {row.call}"


def report(counts, names):
    table = {}
    for row in counts:
        table.setdefault(title(row), {})[row.allocator] = row.instructions
    print(f"{'instructions of a call':32}", *(f"{name:>10}" for name in names))
    for operation, cells in table.items():
        print(f"{operation:32}",
              *(f"{cells[name]:>10.1f}" if name in cells else f"{'-':>10}" for name in names))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="folder with libvalloc-override.so and benches/operations")
    parser.add_argument("--out", help="file for the counts")
    parser.add_argument("--only", default=LABELS, type=containing(LABELS),
                        help="operations that contain this word")
    parser.add_argument("--allocators", type=lambda text: text.split(","))
    parser.add_argument("--extra", action="append", default=[], help="NAME=LIBRARY")
    options = parser.parse_args()
    if not callgrind.available():
        sys.exit("valgrind is not installed; .ci/setup.sh bench installs it")
    libraries = find(options.build, options.allocators, options.extra)
    with Part(options.out, ["operation", "allocator", "calls", "instructions"]) as part:
        counts = count(options.build, libraries, options.only, part.fail)
        for row in counts:
            part.keep([title(row), *row[3:]])
        report(counts, libraries)
    part.end()


if __name__ == "__main__":
    main()
