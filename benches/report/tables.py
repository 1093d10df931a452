#!/usr/bin/env python3
"""Writes all results of a folder as Markdown: where and when they were measured, tables, and where
others are ahead.

tables.py FOLDER

Prints them, and writes FOLDER/results.md. Reads *-summary.csv, some *-samples.csv and *-run.txt, see
docs/benchmarks.md, and circumstances.txt, which the page writes. Parts without samples are left out,
with a message. The best of a row is bold, by its exact figure, not by its printed digits."""

import contextlib
import csv
import io
import math
import re
import statistics
import sys
import textwrap
from pathlib import Path

FOUNDING = ["malloc", "calloc", "valloc", "mimalloc", "jemalloc", "snmalloc"]
SIZES = [16, 256, 4 << 10, 64 << 10, 1 << 20, 32 << 20]
PERCENT = 5  # so much and more a sentence calls behind
BEHIND = 1 + PERCENT / 100


def human(size):
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"


def nanoseconds(value):
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def listed(words):
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)


def geometric_mean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def table(corner, names, rows):
    """rows: (heading, {name: (key, text)}); the least key is the best. A key that is None is not
    compared."""
    print(f"| {corner} |", " | ".join(f"**{name}**" if name == "valloc" else name for name in names), "|")
    print("|---" * (len(names) + 1) + "|")
    for heading, cells in rows:
        best = min((key for key, _ in cells.values() if key is not None), default=math.nan)
        texts = []
        for name in names:
            key, text = cells.get(name, (None, "-"))
            figure, slash, rest = text.partition(" / ")
            texts.append(f"**{figure}**{slash}{rest}" if key == best else text)
        print(f"| {heading} |", " | ".join(texts), "|")
    print()


def founding(rows):
    print("Mean of allocation and free in ns; 1000 blocks per thread, filled by memset:\n")
    cells = {}
    for row in rows:
        if row["allocator"] in FOUNDING:
            setting = (int(row["threads"]), row["filled"] == "true", int(row["size"]))
            cells.setdefault(setting, {})[row["allocator"]] = float(row["mean_ns"])
    for threads in (1, 4):
        chosen = [(human(size), {name: (ns, nanoseconds(ns)) for name, ns in
                                 cells[threads, True, size].items()})
                  for size in SIZES if (threads, True, size) in cells]
        if chosen:
            table(f"{threads} thread{'s' * (threads > 1)}", FOUNDING, chosen)
    ahead, slightly, places = [], 0, 0
    for (threads, filled, size), times in sorted(
            cells.items(), key=lambda cell: (cell[0][0], not cell[0][1], cell[0][2])):
        if "valloc" not in times:
            continue
        places += 1
        best = min(times, key=times.get)
        if times["valloc"] > BEHIND * times[best]:
            ahead.append(f"{human(size)} with {threads} thread{'s' * (threads > 1)}, "
                         f"{'filled' if filled else 'untouched'} "
                         f"({nanoseconds(times['valloc'])} ns, {best} {nanoseconds(times[best])}: "
                         f"{(times['valloc'] / times[best] - 1) * 100:.0f} %)")
        elif times["valloc"] > times[best]:
            slightly += 1
    sizes = sorted({size for _, _, size in cells})
    filling = sorted({filled for _, filled, _ in cells}, reverse=True)
    counts = sorted({threads for threads, _, _ in cells})
    print(f"Of {len(sizes)} sizes from {human(sizes[0])} to {human(sizes[-1])}, with "
          f"{listed(list(map(str, counts)))} thread{'s' * (counts != [1])}, "
          f"{' and '.join('filled' if one else 'untouched' for one in filling)}, valloc is the "
          f"fastest at {places - len(ahead) - slightly} of {places}, "
          f"and up to {PERCENT} % behind at {slightly}.")
    print(f"Others are ahead by more than {PERCENT} % at: {'; '.join(ahead) or 'nothing'}.\n")


def medians(rows):
    """{subject: {allocator: {figure: median}}}, in the order of the file."""
    subjects = {}
    for row in rows:
        figures = subjects.setdefault(row["subject"], {}).setdefault(row["allocator"], {})
        figures[row["figure"]] = float(row["median"])
    return subjects


def names_of(subjects, *first):
    found = dict.fromkeys(name for row in subjects.values() for name in row)
    return [*(name for name in first if name in found), *(name for name in found if name not in first)]


def beside(subjects, names, figure, digits, sign=1):
    """A table of a figure and the peak of resident memory. sign: -1 if more is better."""
    rows = [(subject, {name: (sign * cell[figure], f"{cell[figure]:.{digits}f} / {cell['peak_mib']:.0f}")
                       for name, cell in row.items() if name in names})
            for subject, row in subjects.items()]
    table("", names, rows)


def behind(subjects, names, figure, unit, sign=1, step=0):
    """Prints where others are ahead by more than PERCENT. step: the clock's resolution; smaller
    differences than two steps do not count."""
    found = []
    for subject, row in subjects.items():
        ratios = {name: (row["valloc"][figure] / max(row[name][figure], step)) ** sign
                  for name in names if name in row and "valloc" in row
                  and abs(row["valloc"][figure] - row[name][figure]) >= 2 * step}
        best = max(ratios, key=ratios.get, default=None)
        if best and ratios[best] > BEHIND:
            found.append(f"{subject} ({best} by {(ratios[best] - 1) * 100:.0f} %)")
    print(f"Others are ahead by more than {PERCENT} % in {unit} at: {listed(found) or 'nothing'}.")


def threads(rows):
    print("Millions of operations per second / peak resident MiB:\n")
    subjects = medians(rows)
    names = [name for name in names_of(subjects, "valloc") if name != "linked"]
    beside(subjects, names, "mops", 2, -1)
    behind(subjects, names, "mops", "speed", -1)
    behind(subjects, names, "peak_mib", "memory")
    print()


def to_others(subjects, names):
    """Geometric means of valloc's time and memory divided by each other one's."""
    shares = []
    for name in names:
        both = [(row["valloc"], row[name]) for row in subjects.values() if {"valloc", name} <= row.keys()]
        if name == "valloc" or not both:
            continue
        time, memory = (geometric_mean(ours[figure] / theirs[figure] for ours, theirs in both)
                        for figure in ("cpu_s", "peak_mib"))
        what = (" of the time", " of the memory") if not shares else ("", "")
        shares.append(f"{name} {time:.2f}{what[0]} and {memory:.2f}{what[1]}")
    return ", ".join(shares)


def programs_c(rows):
    print("Processor seconds / peak resident MiB:\n")
    subjects = medians(rows)
    names = names_of(subjects, "valloc")
    beside(subjects, names, "cpu_s", 2)
    print(f"Geometric means, valloc to the other: {to_others(subjects, names)}.")
    behind(subjects, names, "cpu_s", "time")
    behind(subjects, names, "peak_mib", "memory")
    print()


def programs_rust(rows):
    print("Processor seconds / peak resident MiB, by the global allocator:\n")
    subjects = medians(rows)
    names = names_of(subjects, "system", "valloc")
    beside(subjects, names, "cpu_s", 2)
    complete = [row for row in subjects.values() if len(row) == len(names)]
    means = {}
    for name in names:
        means[name] = [geometric_mean(row[name][figure] / min(cell[figure] for cell in row.values())
                                      for row in complete) for figure in ("cpu_s", "peak_mib")]
    order = sorted(means, key=lambda name: means[name][0])
    print("Geometric means of each one's share of the best, time and memory: "
          + ", ".join(f"{name} {means[name][0]:.2f} and {means[name][1]:.2f}" for name in order) + ".")
    print(f"Geometric means, valloc to the other: {to_others(subjects, names)}.")
    behind(subjects, names, "cpu_s", "time")
    behind(subjects, names, "peak_mib", "memory")
    print()


def memory(rows):
    subjects = medians(rows)
    names = names_of(subjects, "malloc", "valloc")
    print("Resident MiB after the purge, or after idling with the background thread if there is one; "
          "then mean / peak of the whole scenario:\n")
    purged = [(f"{subject}, purge", {name: (cell["after purge"], f"{cell['after purge']:.0f}")
                                     for name, cell in row.items()})
              for subject, row in subjects.items() if subject.startswith("fragments")]
    idled = [("asleep, idle", {name: (cell["after idle"], f"{cell['after idle']:.0f}")
                               for name, cell in row.items()})
             for subject, row in subjects.items() if subject == "asleep"]
    idled += [(f"{subject}, 10 s", {name: (cell["after 10 s"], f"{cell['after 10 s']:.0f}")
                                    for name, cell in row.items()})
              for subject, row in subjects.items() if subject.startswith("idle")]
    whole = [(subject, {name: (cell["mean_mib"], f"{cell['mean_mib']:.0f} / {cell['peak_mib']:.0f}")
                        for name, cell in row.items()})
             for subject, row in subjects.items() if subject in ("waves", "server")]
    table("", names, purged + idled + whole)
    print("All scenarios: mean / peak MiB; then MiB of the fragments scenarios after each phase:\n")
    beside(subjects, names, "mean_mib", 0)
    after = {f"{subject}, {phase}": {name: cell[f"after {phase}"] for name, cell in row.items()}
             for subject, row in subjects.items() if subject.startswith("fragments")
             for phase in ("free 95 %", "idle", "tick", "purge", "end")}
    if after:
        table("", names, [(heading, {name: (mib, f"{mib:.0f}") for name, mib in row.items()})
                          for heading, row in after.items()])
    print("Processor seconds:\n")
    table("", names, [(subject, {name: (cell["cpu_s"], f"{cell['cpu_s']:.2f}")
                                 for name, cell in row.items()})
                      for subject, row in subjects.items()])
    behind(subjects, names, "mean_mib", "mean memory")
    behind(subjects, names, "peak_mib", "peak memory")
    behind({subject: row for subject, row in subjects.items() if subject.startswith("fragments")},
           names, "after purge", "memory after the purge")
    behind(subjects, names, "cpu_s", "time")
    print()


# Selected patterns and their descriptions.
CHOSEN = {"replace 1000000": "replace, 1,000,000 live",
          "bulk 64 random": "bulk of 64 B, freed at random",
          "sweep 6000": "sweep: sizes one after the other",
          "moving 50000": "moving: blocks go on to larger sizes",
          "holes 200": "holes: 200 blocks of 1 to 2 MiB replaced"}


def micro(rows):
    subjects = medians(rows)
    names = names_of(subjects, "valloc")

    def show(chosen):
        def both(cell):
            ns = cell["total_ns"]
            return ns, f"{nanoseconds(ns)} / {cell['peak_mib']:.0f}"

        table("", names, [(heading, {name: both(cell) for name, cell in subjects[subject].items()})
                          for subject, heading in chosen if subject in subjects])

    print("Nanoseconds an operation / peak resident MiB:\n")
    show(CHOSEN.items())
    print("All patterns:\n")
    show((subject, subject) for subject in subjects)
    behind(subjects, names, "total_ns", "time")
    behind(subjects, names, "peak_mib", "memory")
    print()


def startup(rows):
    subjects = medians(rows)
    names = [name for name in names_of(subjects, "valloc", "empty") if name != "nothing"]
    subjects = {program: row for program, row in subjects.items() if "nothing" in row}
    print("Processor time as a multiple of the program alone / additional KiB of resident memory at "
          "the peak of the largest process. `empty` is a library without code:\n")
    cells = []
    for program, row in subjects.items():
        bare = row["nothing"]

        def both(name):
            times = row[name]["cpu_us"] / bare["cpu_us"]
            above = row[name]["peak_kib"] - bare["peak_kib"]
            return None if name == "empty" else times, f"{times:.2f} / {above:.0f}"

        cells.append((program, {name: both(name) for name in names if name in row}))
    table("", names, cells)
    peers = [name for name in names if name != "empty"]
    behind(subjects, peers, "cpu_us", "time")
    behind(subjects, peers, "peak_kib", "memory")
    print()


def by_subject(samples, *columns):
    """{subject: median} of samples that end with their value."""
    groups = {}
    for sample in samples:
        *_, value = sample.values()
        groups.setdefault(tuple(sample[column] for column in columns), []).append(float(value))
    return {subject: statistics.median(values) for subject, values in groups.items()}


def instances(samples):
    ns = {subject[0]: value for subject, value in by_subject(samples, "measure").items()}
    process = ns["pair_process"]
    print("|  | ns | |\n|---|---|---|")
    for measure, what in (("pair_process", "a pair of 64 B: from the process"),
                          ("pair_own", "from an allocator"),
                          ("pair_shared", "from one whose shared cache it has to use")):
        print(f"| {what} | {ns[measure]:.2f} | {ns[measure] / process:.2f} of the process's |")
    print(f"| life of an empty allocator | {ns['life_empty']:.0f} | |")
    print(f"| life of one with ten allocations | {ns['life_small']:.0f} | |")
    print(f"| 1 GiB in 1 Mi slots: freed one by one | {ns['free_each']:,.0f} | |")
    times = ns["free_each"] / ns["destroy"]
    print(f"| destroyed | {ns['destroy']:,.0f} | {times:.0f} times faster |\n")


def runs(samples):
    ns = by_subject(samples, "runs", "length")
    print("Nanoseconds to return a run and to lend one, which fits or is long:\n")
    print("| runs | fits | long |\n|---|---|---|")
    for count in dict.fromkeys(count for count, _ in ns):
        print(f"| {int(count):,} | {ns[count, 'fits']:,.0f} | {ns[count, 'long']:,.0f} |")
    print()


# Features of valloc's secure builds.
FEATURES = ("random", "quarantine", "zero", "canary", "guard", "copies")


def secure(samples):
    print("Nanoseconds an operation; programs: processor seconds / peak resident MiB:\n")
    cells = {}
    for sample in samples:
        cells.setdefault(sample["subject"], {}).setdefault(sample["allocator"], []).append(sample)
    builds = dict.fromkeys(sample["allocator"] for sample in samples)

    def text(subject, build):
        mine = cells[subject].get(build)
        if not mine:
            return "-"
        middle = {column: statistics.median(float(sample[column] or "nan") for sample in mine)
                  for column in ("ns", "cpu_s", "peak_mib")}
        if not math.isnan(middle["ns"]):
            return f"{middle['ns']:.{1 if subject.startswith('pair') else 0}f}"
        return f"{middle['cpu_s']:.2f} / {middle['peak_mib']:.0f}"

    headings = {"pair 64": "pair 64 B", "pair 4096": "pair 4 KiB", "replace 100000": "replace",
                "bulk 64 random": "bulk"}
    print("| build |", " | ".join(headings.get(subject, subject) for subject in cells), "|")
    print("|---" * (len(cells) + 1) + "|")
    for build in builds:
        row = [build, *(text(subject, build) for subject in cells)]
        if build in FEATURES:
            row[0] = f"`{build}`"
        if build == "all":
            row = [f"**{word}**" for word in ["all of them", *row[1:]]]
        print("|", " | ".join(row), "|")
    print()


def latency(rows):
    subjects = {}
    for row in sorted(rows, key=lambda row: (row["operation"], int(row["size"]))):
        figures = {column: float(row[column]) for column in ("p50", "p999")}
        subject = f"{row['operation']}, {human(int(row['size']))}"
        subjects.setdefault(subject, {})[row["allocator"]] = figures
    names = names_of(subjects, *FOUNDING)
    step = max(float(row["step_ns"]) for row in rows)
    print("Nanoseconds of a single operation: median / the slowest in a thousand. The clock's own cost "
          f"is subtracted; its resolution is {step:.0f} ns:\n")
    table("", names, [(subject, {name: (cell["p50"], f"{cell['p50']:.0f} / {cell['p999']:.0f}")
                                 for name, cell in row.items()})
                      for subject, row in subjects.items()])
    behind(subjects, names, "p50", "the median", step=step)
    behind(subjects, names, "p999", "the slowest in a thousand", step=step)
    print()


def instructions(rows):
    subjects = medians(rows)
    names = names_of(subjects, "valloc")
    print("Instructions of a call outside the kernel:\n")
    table("", names, [(subject, {name: (cell["instructions"], f"{cell['instructions']:,.1f}")
                                 for name, cell in row.items()})
                      for subject, row in subjects.items()])
    behind(subjects, names, "instructions", "instructions")
    print()


# Name, heading, what shows it, of which file.
PARTS = [("founding", "By size", founding, "summary"),
         ("latency", "Regularity", latency, "summary"),
         ("threads", "Memory that crosses threads", threads, "summary"),
         ("programs-c", "Whole programs", programs_c, "summary"),
         ("programs-rust", "Whole Rust programs", programs_rust, "summary"),
         ("memory", "Memory over time", memory, "summary"),
         ("micro", "Patterns of one thread", micro, "summary"),
         ("startup", "Small programs", startup, "summary"),
         ("instances", "Allocators of your own", instances, "samples"),
         ("runs", "The search for runs", runs, "samples"),
         ("secure", "Secure builds", secure, "samples"),
         ("instructions", "Instructions", instructions, "summary")]


def rows_of(path):
    try:
        with open(path) as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return []


def circumstances(folder):
    """The machine and the compared versions, from the page. Each part has its own commit and date."""
    file = folder / "circumstances.txt"
    if not file.exists():
        print("there is no circumstances.txt; make bench-report writes it", file=sys.stderr)
        return
    print("| | |\n|---|---|")
    for line in file.read_text().splitlines():
        what, _, value = line.partition(": ")
        if what not in ("Commit", "Date"):
            print(f"| {what} | {value.replace('|', '/')} |")
    print()


def commits(folder):
    """The commits that were measured."""
    found = {}
    for name, *_ in PARTS:
        run = folder / f"{name}-run.txt"
        commit = re.match(r"Commit (.*?), begun", run.read_text()) if run.exists() else None
        if commit:
            found.setdefault(commit.group(1), []).append(name)
    if len(found) == 1:
        print(f"Commit {next(iter(found))}.\n")
    elif found:
        print("Commits: " + "; ".join(f"{commit} ({', '.join(names)})"
                                      for commit, names in found.items()) + ".\n")


def show_part(folder, name, heading, show, kind):
    """Prints a part. Returns whether it has samples."""
    rows = rows_of(folder / f"{name}-{kind}.csv")
    if not rows:
        print(f"{name} was not measured", file=sys.stderr)
        return False
    print(f"## {heading}\n")
    run = folder / f"{name}-run.txt"
    rounds = {row["round"] for row in rows_of(folder / f"{name}-samples.csv") if "round" in row}
    about = [run.read_text().strip()] if run.exists() else []
    if rounds:
        about.append(f"{len(rounds)} round{'s' * (len(rounds) > 1)}.")
    if about:
        print(" ".join(about) + "\n")
    failures = folder / f"{name}-failures.txt"
    if failures.exists():
        print(f"Failed:\n\n```\n{failures.read_text().strip()}\n```\n")
    show(rows)
    return True


def wrapped(line):
    """Wraps prose; keeps tables and headings."""
    if line.startswith(("|", "#")):
        return line + "\n"
    return textwrap.fill(line, 100, break_long_words=False, break_on_hyphens=False) + "\n"


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: tables.py FOLDER")
    folder = Path(sys.argv[1])
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        print("# Results\n")
        print("`make bench-tables` writes this page; [benchmarks.md](benchmarks.md) describes the "
              "method. Figures are medians over the rounds. The best of a row is bold.\n")
        circumstances(folder)
        commits(folder)
        shown = [show_part(folder, *part) for part in PARTS]
    if not any(shown):
        sys.exit(f"there are no summaries in {folder}")
    results = "".join(map(wrapped, text.getvalue().splitlines()))
    results += "\n" + (Path(__file__).parent / "reasons.md").read_text()
    (folder / "results.md").write_text(results)
    print(results, end="")


if __name__ == "__main__":
    main()
