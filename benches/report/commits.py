#!/usr/bin/env python3
"""Compares two versions of valloc, in turns: patterns of one thread, whole C programs, instructions.

commits.py BUILD OLD [NEW] [--rounds N]

OLD and NEW are git revisions; the default for NEW is the working tree. Both libraries are built in
BUILD/../compare, by the same compiler, with the flags of their own CMakeLists.txt. The measuring
programs are those of BUILD. Prints new / old: medians of the rounds' ratios with their quartiles. A *
marks results where the ratios of all rounds are on one side of 1. Exact counts have no spread."""

import argparse
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BENCHES = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(BENCHES / folder) for folder in ("common", "speed", "programs")]
import callgrind  # noqa: E402
import compare  # noqa: E402
import instructions  # noqa: E402
import run as whole  # noqa: E402
from allocators import Part, known, positive, quartiles  # noqa: E402

PATTERNS = [("pair", "64"), ("pair", "32768"), ("pair", "2097152"), ("bulk", "64", "same"),
            ("bulk", "256", "random"), ("replace", "100000"), ("growth", "65536"),
            ("sweep", "6000"), ("moving", "50000"), ("holes", "200")]
PROGRAMS = ["python3", "perl", "sqlite3", "lua", "gs"]


def git(*arguments):
    return subprocess.run(["git", "-C", str(BENCHES), *arguments], capture_output=True, text=True)


def commit_of(revision):
    """The commit's number; ends with a message if there is none."""
    found = git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if found.returncode != 0:
        sys.exit(f"git knows no revision '{revision}'; `git log --oneline` lists some")
    return found.stdout.strip()


def describe(revision):
    if revision is not None:
        return git("log", "-1", "--format=%h %s", revision).stdout.strip()
    dirty = git("status", "--porcelain", "--untracked-files=no").stdout.strip()
    return git("log", "-1", "--format=%h %s").stdout.strip() + (", with changes" if dirty else "")


def build(name, revision, folder):
    """Builds the override library of a revision, or of the working tree; its path."""
    source = BENCHES.parent
    binary = folder / name
    shutil.rmtree(binary, ignore_errors=True)
    if revision is not None:
        source = binary / "source"
        source.mkdir(parents=True)
        archive = subprocess.run(["git", "-C", str(BENCHES.parent), "archive", commit_of(revision)],
                                 check=True, capture_output=True).stdout
        subprocess.run(["tar", "x", "-C", str(source)], input=archive, check=True)
    for command in (
            ["cmake", "-G", "Ninja", "-S", source, "-B", binary, "-DCMAKE_BUILD_TYPE=Release",
             "-DVALLOC_BUILD_TESTS=OFF"],
            ["cmake", "--build", binary, "--target", "valloc_override"]):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{name} ({describe(revision)}) cannot be built:\n"
                     f"{(done.stdout + done.stderr)[-3000:]}")
    return str(binary / "libvalloc-override.so")


def line(subject, pairs):
    """Prints the ratios new / old of pairs (old, new); returns their median."""
    ratios = [new / old for old, new in pairs]
    lower, middle, upper = quartiles(ratios)
    old, new = (quartiles(side)[1] for side in zip(*pairs))
    # Of fewer rounds all fall on one side by chance too often.
    mark = "*" if len(ratios) >= 5 and (min(ratios) > 1 or max(ratios) < 1) else " "
    print(f"{subject:30} {old:>12.2f} {new:>12.2f} {middle:>9.3f}{mark} {lower:>7.3f} to {upper:.3f}",
          flush=True)
    return middle


def report(title, samples, column):
    """A table of a figure: the samples of a round belong together."""
    print(f"\n{title + ':':30} {'old':>12} {'new':>12} {'new / old':>10} {'quartiles':>16}")
    by_subject = {}
    for sample in samples:
        rounds = by_subject.setdefault(sample[0], {})
        rounds.setdefault(sample.round, {})[sample.allocator] = getattr(sample, column)
    ratios = [line(subject, [(pair["old"], pair["new"]) for pair in rounds.values()])
              for subject, rounds in by_subject.items()]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    print(f"{'geometric mean':30} {mean:>35.3f}")


def report_instructions(counts):
    print(f"\n{'instructions of a call:':30} {'old':>12} {'new':>12} {'new / old':>10}")
    table = {}
    for row in counts:
        table.setdefault(instructions.title(row), {})[row.allocator] = row.instructions
    same = 0
    for title, sides in table.items():
        old, new = sides.get("old"), sides.get("new")
        if old is None or new is None:
            print(f"{title:30} only in {'new' if old is None else 'old'}")
        elif abs(new - old) < 0.05:
            same += 1
        else:
            print(f"{title:30} {old:>12.1f} {new:>12.1f} {new / old:>9.3f}")
    print(f"{same} of {len(table)} are the same.")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="folder with the measuring programs")
    parser.add_argument("old")
    parser.add_argument("new", nargs="?")
    parser.add_argument("--rounds", type=positive, default=7)
    parser.add_argument("--programs", default=PROGRAMS, type=known(whole.NAMES),
                        help="whole programs, by commas")
    options = parser.parse_args()
    revisions = {"old": options.old, "new": options.new or None}
    for revision in filter(None, revisions.values()):
        commit_of(revision)
    if not callgrind.available():
        sys.exit("valgrind is not installed; .ci/setup.sh bench installs it")
    folder = Path(options.build).resolve().parent / "compare"
    libraries = {}
    for name, revision in revisions.items():
        print(f"{name}: {describe(revision)}", flush=True)
        libraries[name] = build(name, revision, folder)

    with tempfile.TemporaryDirectory() as files:
        programs = whole.Programs(Path(files))
        chosen = programs.choose(options.programs)
        patterns = Part(None, compare.Sample._fields)
        for place, pattern in enumerate(PATTERNS):
            compare.measure(options.build, libraries, pattern, options.rounds, patterns, place)
        report("ns per operation", patterns.samples, "total_ns")
        report("peak MiB", patterns.samples, "peak_mib")
        part = Part(None, whole.Sample._fields)
        whole.measure(programs, chosen, libraries, options.rounds, part)
    if part.samples:
        report("processor seconds", part.samples, "cpu_s")
        report("peak MiB", part.samples, "peak_mib")
    report_instructions(instructions.count(options.build, libraries))
    part.failures += patterns.failures
    part.end()


if __name__ == "__main__":
    main()
