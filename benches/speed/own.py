#!/usr/bin/env python3
"""Measures what only valloc has: a MemoryAllocator (instances.c), and the search for runs (runs.c).

own.py BUILD [--out FOLDER] [--rounds N]

Prints medians. --out saves every round as a line of CSV, and the tables. instances-samples.csv has
measure, round, ns. runs-samples.csv has runs (their number), length (of the runs lent: fits, long),
round, ns."""

import argparse
import contextlib
import io
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from allocators import Part, positive  # noqa: E402


def measure(program, rounds, out, columns):
    """The samples of a program that prints one in each line."""
    name = program.name
    with Part(out and out / f"{name}-samples.csv", columns) as part:
        print(f"{name}", file=sys.stderr)
        with subprocess.Popen([program, *rounds], stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                *subject, turn, value = line.split()
                part.keep((*subject, int(turn), float(value)))
        if process.returncode != 0:
            part.fail(f"{name} ended with status {process.returncode}")
    return part


def medians(samples):
    """{subject: median}; the last two columns are the round and the value."""
    groups = {}
    for *subject, _, value in samples:
        groups.setdefault(tuple(subject), []).append(value)
    return {subject: statistics.median(values) for subject, values in groups.items()}


def instances(samples):
    ns = {subject[0]: value for subject, value in medians(samples).items()}
    process, own, shared = (ns[f"pair_{which}"] for which in ("process", "own", "shared"))
    print(f"pair, 64 B: process {process:.2f} ns, allocator {own:.2f} ns ({own / process:.2f}), "
          f"shared cache {shared:.2f} ns ({shared / process:.2f})")
    print(f"life of an empty allocator: {ns['life_empty'] / 1000:.2f} us; "
          f"with ten allocations: {ns['life_small'] / 1000:.2f} us")
    each, destroyed = ns["free_each"], ns["destroy"]
    print(f"1 GiB in 1 Mi slots: freed in {each / 1e6:.2f} ms, "
          f"destroyed in {destroyed / 1e6:.2f} ms: {each / destroyed:.0f} times faster")


def runs(samples):
    ns = medians(samples)
    print(f"{'runs':>9} {'fits':>10} {'long':>10}   ns per run reclaimed and lent")
    for count in dict.fromkeys(count for count, _ in ns):
        print(f"{count:>9} {ns[count, 'fits']:>10.1f} {ns[count, 'long']:>10.1f}")


PROGRAMS = [("instances", instances, ["measure", "round", "ns"]),
            ("runs", runs, ["runs", "length", "round", "ns"])]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="folder with benches/instances and benches/runs")
    parser.add_argument("--out", type=Path, help="folder for the samples and tables")
    parser.add_argument("--rounds", type=positive, help="by default each program's own number")
    options = parser.parse_args()
    parts = []
    for name, show, columns in PROGRAMS:
        program = Path(options.build).resolve() / "benches" / name
        if not program.exists():
            sys.exit(f"{program} is not built; make builds it")
        rounds = [str(options.rounds)] if options.rounds else []
        part = measure(program, rounds, options.out, columns)
        parts.append(part)
        text = io.StringIO()
        if not part.failures and not part.interrupted:
            with contextlib.redirect_stdout(text):
                show(part.samples)
        print(text.getvalue(), end="", flush=True)
        if options.out and text.getvalue():
            (options.out / f"{name}.txt").write_text(text.getvalue())
        if part.interrupted:
            break
    for part in parts:
        part.end()


if __name__ == "__main__":
    main()
