#!/usr/bin/env python3
"""compare.py BUILD: commits every crime on valloc and on the machine's other allocators, each in a separate
process, and writes the outcomes to docs/misuse.md."""

import glob
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
build = Path(sys.argv[1])
crimes = build / "tests" / "crimes"
SILENT, CORRUPT, ABSENT = 0, 1, 77


def version(package):
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True)
    return done.stdout or "unknown version"


def found(pattern):
    paths = sorted(glob.glob(pattern))
    return paths[-1] if paths else None


CONTENDERS = [
    ("valloc", build / "libvalloc-override.so", "this version"),
    ("valloc, secure", ROOT / "build" / "secure" / "libvalloc-override.so", "this version, VALLOC_SECURE"),
    ("glibc", "", version("libc6")),
    ("mimalloc", found("/usr/lib/*/libmimalloc.so.2*"), version("libmimalloc2.0")),
    ("mimalloc, secure", found("/usr/lib/*/libmimalloc-secure.so.2*"), version("libmimalloc2.0")),
    ("jemalloc", found("/usr/lib/*/libjemalloc.so.2"), version("libjemalloc2")),
    ("scudo", found("/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.scudo_standalone-*.so"),
     "of clang " + version("clang")),
]


def outcome(crime, library):
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    try:
        done = subprocess.run([crimes, crime], env=environment, capture_output=True, timeout=60)
    except subprocess.TimeoutExpired:
        return "hangs"
    said = bool(done.stderr.strip())
    if done.returncode < 0:
        if -done.returncode in (signal.SIGABRT, signal.SIGTRAP) and said:
            return "**reported**"
        return "crash"
    names = {SILENT: "harmless", CORRUPT: "corrupt", ABSENT: "–"}
    if done.returncode not in names:
        sys.exit(f"{crime} on {library}: exit {done.returncode}\n{done.stderr.decode()}")
    return names[done.returncode] + (", warned" if said else "")


present = [(name, library, which) for name, library, which in CONTENDERS
           if library == "" or (library is not None and Path(library).exists())]
names = subprocess.run([crimes], capture_output=True, text=True, check=True).stdout.split()
rows = [[name.replace("_", " ")] + [outcome(name, library) for _, library, _ in present] for name in names]
text = f"""# Misuse

`make misuse-table` writes this page: {len(names)} ways to misuse memory, and what happens with each allocator. The program
`tests/misuse/crimes.c` commits each crime in a separate process, with each allocator by `LD_PRELOAD`.

- **reported**: the process stops with a message.
- crash: the process dies without a message.
- corrupt: the process continues. An allocation had two owners, another allocation's contents changed, or the contents
  of a freed allocation were read.
- harmless: the process continues, and none of this was observed.
- warned: the process continues after a message.
- –: the allocator does not have the function.

Crimes named "unused" end with a purge instead of further allocations.

| crime | {" | ".join(name for name, _, _ in present)} |
|---|{"---|" * len(present)}
"""
for row in rows:
    text += f"| {' | '.join(row)} |\n"
text += "| reported | " + " | ".join(
    str(sum(row[i + 1] == "**reported**" for row in rows)) for i in range(len(present))) + " |\n"
text += "| corrupt | " + " | ".join(
    str(sum(row[i + 1].startswith("corrupt") for row in rows)) for i in range(len(present))) + " |\n"
text += "\nVersions: " + "; ".join(f"{name}: {which}" for name, _, which in present) + ".\n"
(ROOT / "docs" / "misuse.md").write_text(text)
print(text)
