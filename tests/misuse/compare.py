#!/usr/bin/env python3
"""compare.py BUILD: commits every crime of table.h at every size on valloc and on other allocators, each in a
separate process, and writes the outcomes to docs/misuse.md. mimalloc's secure build and snmalloc's checks are
compiled from the sources that cargo has for the Rust benchmarks; the others are Debian's packages."""

import datetime
import glob
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benches" / folder) for folder in ("common", "speed")]
from secure import run, secure_mimalloc  # noqa: E402

BUILD = Path(sys.argv[1]).resolve()
CRIMES = BUILD / "tests" / "crimes"
LETTERS = "RLFHUC-"
SECONDS = 20


def version(package):
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True)
    return done.stdout or "unknown version"


def found(pattern):
    paths = sorted(glob.glob(pattern))
    return paths[-1] if paths else None


def crate(name):
    packages = json.loads(run("cargo", "metadata", "--format-version", "1", cwd=ROOT))["packages"]
    return next((Path(p["manifest_path"]).parent, p["version"]) for p in packages if p["name"] == name)


def snmalloc_checks():
    folder = BUILD.parent / "snmalloc-checks"
    run("cmake", "-S", crate("snmalloc-sys")[0] / "upstream", "-B", folder, "-DCMAKE_BUILD_TYPE=Release",
        "-DSNMALLOC_BUILD_TESTING=OFF")
    run("cmake", "--build", folder, "--target", "snmallocshim-checks")
    return folder / "libsnmallocshim-checks.so"


# Name in the table, library to preload, which version.
CONTENDERS = [
    ("valloc", BUILD / "libvalloc-override.so", "this version"),
    ("valloc secure", BUILD.parent / "secure" / "libvalloc-override.so", "this version, `VALLOC_SECURE`"),
    ("glibc", "", version("libc6")),
    ("mimalloc", found("/usr/lib/*/libmimalloc.so.2*"), version("libmimalloc2.0")),
    ("mimalloc secure", secure_mimalloc(BUILD),
     f"2, `MI_SECURE=4`, of the crate libmimalloc-sys {crate('libmimalloc-sys')[1]}"),
    ("jemalloc", found("/usr/lib/*/libjemalloc.so.2"), version("libjemalloc2")),
    ("scudo", run("clang", "-print-file-name=libclang_rt.scudo_standalone-x86_64.so"),
     "standalone, of clang " + version("clang")),
    ("snmalloc checks", snmalloc_checks(),
     f"`SNMALLOC_CHECK_CLIENT`, of the crate snmalloc-sys {crate('snmalloc-sys')[1]}"),
]
present = [one for one in CONTENDERS if one[1] == "" or (one[1] is not None and Path(one[1]).exists())]


def outcome(library, crime, size):
    try:
        done = subprocess.run([CRIMES, str(crime), str(size)], env={**os.environ, "LD_PRELOAD": str(library)},
                              capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return "C"
    letter = chr(done.returncode) if done.returncode > 0 else "C"
    if letter not in LETTERS:
        sys.exit(f"crime {crime}, size {size} on {library}: exit {done.returncode}\n{done.stderr.decode()}")
    return letter


def outcomes(library, crime, sizes):
    return "".join(outcome(library, crime, size) for size in range(sizes))


def cell(letters):
    return letters[0] if len(set(letters)) == 1 else f"`{letters}`"


def bad(letters):
    """Unnoticed, or a crash, at so many sizes of so many."""
    real = letters.replace("-", "")
    return sum(letter in "UC" for letter in real), len(real)


def row(*cells):
    return f"| {' | '.join(cells)} |\n"


def main():
    listed = subprocess.run([CRIMES], capture_output=True, text=True, check=True).stdout.splitlines()
    names, whats, counts = zip(*(line.split("\t") for line in listed))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        columns = [list(pool.map(outcomes, [library] * len(names), range(len(names)), map(int, counts)))
                   for _, library, _ in present]
    table = (ROOT / "tests" / "misuse" / "table.h").read_text()
    groups = []
    for group, name in re.findall(r'/\* ---- (.*) ---- \*/|^    \{"([^"]*)",', table, re.M):
        if group:
            groups.append((group, []))
        elif name in names:
            groups[-1][1].append(names.index(name))
    groups = [(group, crimes) for group, crimes in groups if crimes]

    heads = [name for name, _, _ in present]
    rule = "|---|" + "---|" * len(present) + "\n"
    summary = row("unnoticed, or a crash", *heads) + rule
    for group, crimes in [*groups, ("all", range(len(names)))]:
        sums = [[sum(part) for part in zip(*(bad(column[crime]) for crime in crimes))] for column in columns]
        summary += row(group, *(f"{wrong} of {of}" if wrong else f"0 of {of}" for wrong, of in sums))
    details = ""
    for group, crimes in groups:
        details += f"\n### {group}\n\n" + row("crime", *heads) + rule
        for crime in crimes:
            details += row(f"**{names[crime]}**: {whats[crime]}", *(cell(column[crime]) for column in columns))
    versions = "\n".join(f"- {name}: {which}" for name, _, which in present)
    text = f"""# Misuse

`make misuse-table` writes this page: {len(names)} ways to misuse memory, at ten sizes, and what happens with each
allocator. The program `tests/misuse/crimes.c` commits each in a separate process, with the allocator by `LD_PRELOAD`.
What must happen with valloc is in `tests/misuse/table.h`, which tests check.

{summary}
Counted are pairs of a crime and a size. Some crimes cannot be seen by an allocator, for example a second free when the
next allocation has the place.

## Every crime

- R: stopped by the allocator, in the wrong call. L: stopped by the allocator later.
- F: stopped by the hardware, at the wrong access.
- H: harmless. The process continues, and nothing bad was seen.
- U: unnoticed. The process continues. Memory had two owners, another allocation's contents changed, or what was not
  the program's could be read.
- C: the process crashes in another way, or hangs.
- -: the allocator lacks the function, or the crime does not exist at the size.

Ten letters are those of 16, 48 and 256 bytes, 1, 16, 28, 64 and 256 KiB, 1 and 8 MiB. A single letter holds for all of
them, or the crime has no size. "Nothing follows" means that the process purges afterwards instead of allocating.
{details}
## Versions

Written on {datetime.date.today()}, x86-64.

{versions}
"""
    (ROOT / "docs" / "misuse.md").write_text(text)
    print(summary)


main()
