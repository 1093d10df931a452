#!/usr/bin/env python3
"""Compares allocators on memory that crosses threads (threads.c), in turns; medians.

threads.py BUILD [--out FILE] [--rounds N] [--percent N] [--only WORD] [--allocators A,B]
           [--extra NAME=LIBRARY]... [--futex]

Prints millions of operations per second, peak / final resident MiB, and the spread: the largest half
distance between quartiles of a row's speeds. --out saves every run as a line of CSV: pattern,
allocator, round, mops (millions of operations per second), peak_mib, final_mib. All allocators must
reach the same checksum. `linked` is valloc linked instead of preloaded. --futex adds a run under strace
and prints how often threads slept for a lock, and the total and the longest time of these waits, in ms."""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from allocators import Part, containing, environment, find, in_turn, positive, spread  # noqa: E402

COLUMNS = ["pattern", "allocator", "round", "mops", "peak_mib", "final_mib"]
PATTERNS = ["oneway", "ring", "all", "server", "freer", "sharing", "batch", "many", "spawn"]


def run(binary, pattern, percent, library, prefix=()):
    done = subprocess.run([*prefix, binary, pattern, str(percent)], env=environment(library),
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"status {done.returncode}, {done.stderr}")
    speed, peak, final, checksum = done.stdout.split()
    return (float(speed) / 1e6, int(peak) / 1024, int(final) / 1024), checksum, done.stderr


def lock_waits(binary, pattern, percent, library):
    """How often a thread slept for a lock, all these waits in ms, the longest in ms. A lock that
    has sleepers holds 2, in glibc's mutexes as well as in valloc's; joining a thread waits for
    another value. The allocator is preloaded into the program alone, not into strace."""
    with tempfile.NamedTemporaryFile("r") as trace:
        prefix = ["strace", "-f", "-T", "-e", "trace=futex", "-o", trace.name]
        if library:
            prefix += ["-E", f"LD_PRELOAD={library}"]
        subprocess.run([*prefix, binary, pattern, str(percent)], capture_output=True, check=True)
        waiting = set()
        waits = []
        for line in trace:
            thread = line.split(maxsplit=1)[0]
            took = re.search(r"<([\d.]+)>$", line)
            begins = re.search(r"FUTEX_WAIT(_PRIVATE)?, 2\b", line)
            if begins and not took:
                waiting.add(thread)
            elif took and (begins or ("resumed" in line and thread in waiting)):
                waiting.discard(thread)
                waits.append(float(took.group(1)) * 1000)
    return f"{len(waits)} {sum(waits):.0f} {max(waits, default=0):.1f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="folder with libvalloc-override.so and benches/threads")
    parser.add_argument("--out", help="file for the samples")
    parser.add_argument("--rounds", type=positive, default=9)
    parser.add_argument("--percent", type=positive, default=100, help="share of the full work")
    parser.add_argument("--only", default=PATTERNS, type=containing(PATTERNS),
                        help="patterns that contain this word")
    parser.add_argument("--allocators", type=lambda text: text.split(","))
    parser.add_argument("--extra", action="append", default=[])
    parser.add_argument("--futex", action="store_true")
    options = parser.parse_args()
    libraries = find(options.build, options.allocators, options.extra)
    folder = Path(options.build) / "benches"
    runs = {name: (folder / "threads", library) for name, library in libraries.items()}
    if (folder / "threads-valloc").exists() and not options.allocators:
        runs["linked"] = (folder / "threads-valloc", "")
    print(f"{'M operations / s, peak / final MiB':36}", *(f"{name:>20}" for name in runs), f"{'spread':>8}")
    with Part(options.out, COLUMNS) as part:
        for place, pattern in enumerate(options.only):
            measure(runs, pattern, place, options, part)
    part.end()


def measure(runs, pattern, place, options, part):
    """A pattern on everybody, in turns, and its line of the table."""
    checksums = {}
    for turn in range(options.rounds):
        for name, (binary, library) in in_turn(runs.items(), place + turn):
            print(f"\r{pattern} {turn + 1}/{options.rounds} {name:12}", end="", file=sys.stderr)
            try:
                figures, checksum, _ = run(binary, pattern, options.percent, library)
            except RuntimeError as error:
                part.fail(f"{pattern} on {name}: {error}")
                continue
            if checksums.setdefault(pattern, checksum) != checksum:
                part.fail(f"{pattern} on {name}: the contents are not those of the first allocator")
                continue
            part.keep((pattern, name, turn, *figures))
    print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
    cells, widest = [], 0
    for name in runs:
        rows = [sample[3:] for sample in part.samples if sample[:2] == (pattern, name)]
        if not rows:
            cells.append(f"{'-':>20}")
            continue
        speed, peak, final = (statistics.median(column) for column in zip(*rows))
        cells.append(f"{speed:>8.2f} {peak:>5.0f}/{final:>5.0f}")
        widest = max(widest, spread([row[0] for row in rows]))
    print(f"{pattern:36}", *cells, f"{widest:>6.1f} %", flush=True)
    if options.futex:
        waits = [lock_waits(binary, pattern, options.percent, library)
                 for binary, library in runs.values()]
        print(f"{'  waits, all ms, longest ms':36}", *(f"{w:>20}" for w in waits), flush=True)


if __name__ == "__main__":
    main()
