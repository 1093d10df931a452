#!/usr/bin/env python3
"""The tables of README.md and the sentences below them, as Markdown, from the summaries of a run: no
figure is typed by hand.

tables.py FOLDER

Reads *-summary.csv as docs/benchmarks.md describes them; a part that was not measured is left out, and
said so. The best of a row is bold, by the figures themselves, not by their printed digits."""

import csv
import math
import sys
from pathlib import Path

FOUNDING = ["malloc", "calloc", "valloc", "mimalloc", "jemalloc", "snmalloc"]
SIZES = [16, 256, 4 << 10, 64 << 10, 1 << 20, 32 << 20]
BEHIND = 1.05  # that much a sentence calls behind


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
    """rows: (heading, {name: (key, text)}); the least key is the best."""
    print(f"| {corner} |", " | ".join(f"**{name}**" if name == "valloc" else name for name in names), "|")
    print("|---" * (len(names) + 1) + "|")
    for heading, cells in rows:
        best = min(key for key, _ in cells.values())
        texts = []
        for name in names:
            key, text = cells.get(name, (None, "-"))
            figure, slash, rest = text.partition(" / ")
            texts.append(f"**{figure}**{slash}{rest}" if key == best else text)
        print(f"| {heading} |", " | ".join(texts), "|")
    print()


def founding(rows):
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
    ahead, places = [], 0
    for (threads, filled, size), times in sorted(cells.items(), key=lambda c: (c[0][0], not c[0][1], c[0][2])):
        if "valloc" not in times:
            continue
        places += 1
        best = min(times, key=times.get)
        if times[best] < times["valloc"]:
            ahead.append(f"{human(size)} with {threads} thread{'s' * (threads > 1)}, "
                         f"{'filled' if filled else 'untouched'} ({nanoseconds(times['valloc'])} ns, {best} "
                         f"{nanoseconds(times[best])}: {(times['valloc'] / times[best] - 1) * 100:.0f} %)")
    sizes = sorted({size for _, _, size in cells})
    filling = sorted({filled for _, filled, _ in cells}, reverse=True)
    print(f"Of {len(sizes)} sizes from {human(sizes[0])} to {human(sizes[-1])}, with "
          f"{listed([str(n) for n in sorted({threads for threads, _, _ in cells})])} threads, "
          f"{' and '.join('filled' if one else 'untouched' for one in filling)}, valloc is the fastest at "
          f"{places - len(ahead)} of {places}.",
          f"Others are ahead at: {'; '.join(ahead)}." if ahead else "")
    print()


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
    """The table of a figure with the peak of resident memory beside it. sign: -1 where more is better."""
    rows = [(subject, {name: (sign * cell[figure], f"{cell[figure]:.{digits}f} / {cell['peak_mib']:.0f}")
                       for name, cell in row.items() if name in names})
            for subject, row in subjects.items()]
    table("", names, rows)


def behind(subjects, names, figure, unit, sign=1):
    """Where others are ahead by more than chance is granted."""
    found = []
    for subject, row in subjects.items():
        ratios = {name: (row["valloc"][figure] / row[name][figure]) ** sign
                  for name in names if name in row and "valloc" in row}
        best = max(ratios, key=ratios.get, default=None)
        if best and ratios[best] > BEHIND:
            found.append(f"{subject} ({best} by {(ratios[best] - 1) * 100:.0f} %)")
    print(f"Others are ahead by more than {(BEHIND - 1) * 100:.0f} % in {unit} at: "
          f"{listed(found) or 'nothing'}.")


def threads(rows):
    subjects = medians(rows)
    names = [name for name in names_of(subjects, "valloc") if name != "linked"]
    beside(subjects, names, "mops", 2, -1)
    behind(subjects, names, "mops", "speed", -1)
    behind(subjects, names, "peak_mib", "memory")
    print()


def programs_c(rows):
    subjects = medians(rows)
    names = names_of(subjects, "valloc")
    beside(subjects, names, "cpu_s", 2)
    shares = []
    for name in names[1:]:
        both = [(row["valloc"], row[name]) for row in subjects.values() if {"valloc", name} <= row.keys()]
        time, memory = (geometric_mean(ours[figure] / theirs[figure] for ours, theirs in both)
                        for figure in ("cpu_s", "peak_mib"))
        what = (" of the time", " of the memory") if not shares else ("", "")
        shares.append(f"{name} {time:.2f}{what[0]} and {memory:.2f}{what[1]}")
    print(f"Geometric means, valloc to the other: {', '.join(shares)}.")
    behind(subjects, names, "cpu_s", "time")
    behind(subjects, names, "peak_mib", "memory")
    print()


def programs_rust(rows):
    subjects = medians(rows)
    names = names_of(subjects, "system", "valloc")
    beside(subjects, names, "cpu_s", 2)
    complete = [row for row in subjects.values() if len(row) == len(names)]
    means = {}
    for name in names:
        means[name] = [geometric_mean(row[name][figure] / min(cell[figure] for cell in row.values())
                                      for row in complete) for figure in ("cpu_s", "peak_mib")]
    order = sorted(means, key=lambda name: means[name][0])
    print("The geometric mean of each one's share of the best, time and memory: "
          + ", ".join(f"{name} {means[name][0]:.2f} and {means[name][1]:.2f}" for name in order) + ".")
    behind(subjects, names, "cpu_s", "time")
    behind(subjects, names, "peak_mib", "memory")
    print()


def memory(rows):
    subjects = medians(rows)
    names = names_of(subjects, "malloc", "valloc")
    print("Mean / peak resident MiB:\n")
    beside(subjects, names, "mean_mib", 0)
    print("Resident MiB of fragments at the end of a phase:\n")
    after = {f"{subject}, {phase}": {name: cell[f"after {phase}"] for name, cell in row.items()}
             for subject, row in subjects.items() if subject.startswith("fragments")
             for phase in ("free 95 %", "idle", "tick", "purge", "end")}
    table("", names, [(heading, {name: (mib, f"{mib:.0f}") for name, mib in row.items()})
                      for heading, row in after.items()])


PARTS = [("founding", "By size", founding), ("threads", "Memory that crosses threads", threads),
         ("programs-c", "Whole programs", programs_c), ("programs-rust", "Whole Rust programs", programs_rust),
         ("memory", "Memory over time", memory)]


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: tables.py FOLDER")
    folder = Path(sys.argv[1])
    shown = 0
    for part, heading, show in PARTS:
        try:
            with open(folder / f"{part}-summary.csv") as file:
                rows = list(csv.DictReader(file))
        except FileNotFoundError:
            print(f"{part} was not measured", file=sys.stderr)
            continue
        run = folder / f"{part}-run.txt"
        print(f"**{heading}**. {run.read_text().strip() if run.exists() else ''}\n")
        show(rows)
        shown += 1
    if not shown:
        sys.exit(f"there are no summaries in {folder}")


if __name__ == "__main__":
    main()
