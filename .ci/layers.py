#!/usr/bin/env python3
"""Checks the layers of the core. The folders of c/src are layers, in the order in which unity.c
first names them: a file includes headers of its own folder and of folders above it, and headers do
not include each other in a circle. Only os/os_linux.c makes system calls; only api/ sets errno."""

import re
import sys
from pathlib import Path

UPWARD = {"base/check.c": {"os/os.h"}}  # the fatal report writes through the seam
SYSTEM_CALLS = re.compile(
    r"\b(mmap|munmap|mprotect|madvise|mremap|syscall|prctl|getrlimit|clock_gettime|sysconf|"
    r"getauxval|write|read|open)\s*\(")
INCLUDE = re.compile(r'#include "([^"]+)"')

source = Path(__file__).resolve().parents[1] / "c" / "src"
order = list(dict.fromkeys(Path(name).parts[0] for name in
                           INCLUDE.findall((source / "unity.c").read_text())))
wrong = []
includes = {}
for path in sorted(source.glob("*/*.[ch]")):
    name = path.relative_to(source).as_posix()
    if path.parent.name not in order:
        wrong.append(f"{name}: unity.c names no such folder")
        continue
    text = path.read_text()
    includes[name] = [i for i in INCLUDE.findall(text) if not i.startswith("..")]
    code = re.sub(r"/\*.*?\*/|\"(?:[^\"\\\n]|\\.)*\"(?<!\.h\")", "", text, flags=re.S)
    for included in includes[name]:
        folder = Path(included).parts[0]
        if folder not in order or not (source / included).exists():
            wrong.append(f"{name}: includes {included}, which is in no layer")
        elif (order.index(folder) > order.index(path.parent.name) and
              included not in UPWARD.get(name, ())):
            wrong.append(f"{name}: includes {included} from a later layer")
    if name != "os/os_linux.c":
        wrong += [f"{name}: calls {call}" for call in SYSTEM_CALLS.findall(code)]
    if path.parent.name != "api" and name != "os/os_linux.c" and re.search(r"\berrno\b", code):
        wrong.append(f"{name}: touches errno")


def look_for_circles(header, above):
    if header in above:
        wrong.append(" -> ".join([*above[above.index(header):], header]) + ": a circle")
        return
    for included in includes.get(header, ()):
        if included not in UPWARD.get(header, ()):
            look_for_circles(included, [*above, header])


for header in includes:
    if header.endswith(".h"):
        look_for_circles(header, [])
if wrong:
    sys.exit("\n".join(dict.fromkeys(wrong)))
print(f"layers, the lowest first: {', '.join(order)}")
