#!/usr/bin/env python3
"""Checks that the manual is complete: every option of options.c is in using.md, in valloc-options(7)
and in the command valloc, every function of a header in its page, every name of mallctl in
jemalloc.md, and none that does not exist. The pages must be without warnings, where man is installed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
wrong = []


def names(path, pattern):
    return set(re.findall(pattern, (ROOT / path).read_text(), re.M))


def compare(path, found, wanted):
    wrong.extend(f"{path}: {name} is missing" for name in sorted(wanted - found))
    wrong.extend(f"{path}: {name} does not exist" for name in sorted(found - wanted))


options = names("c/src/os/options.c", r'\((?:"(VALLOC_\w+)")')
functions = names("c/include/valloc.h", r"\b((?:valloc_\w+|free_valloc))\((?!size\))")
compare("docs/using.md", names("docs/using.md", r"^\| `(VALLOC_\w+)` \| [^|]* \| [^|]* \| [^|]* \|$"), options)
compare("docs/man/valloc-options.7", names("docs/man/valloc-options.7", r"^\.BR (VALLOC_\w+) \""),
        options)
compare("c/tools/valloc.in", names("c/tools/valloc.in", r"\b(VALLOC_[A-Z_]+)(?= \||\))"), options)
compare("docs/man/valloc.h.3", names("docs/man/valloc.h.3", r'^\.BI? .*?\b(valloc_\w+|free_valloc)\('),
        functions)
compare("docs/man/valloc_jemalloc.h.3",
        names("docs/man/valloc_jemalloc.h.3", r'^\.BI? "[\w ]*?\*?(\w+)\('),
        names("c/include/valloc_jemalloc.h", r"\b(\w*(?:allocx|mallctl\w*|stats_print|hint))\("))
controls = names("c/jemalloc/controls.c", r'^    [A-Z{]+\(?"([\w.]+)",')
groups = {name for name in controls if name.startswith(("config.", "opt."))}
compare("docs/jemalloc.md", {name for row in names("docs/jemalloc.md", r"^\| (`[^|]*) \| [^|]* \| [^|]* \|$")
                             for name in re.findall(r"`([\w.]+)`", row)}, controls - groups)
readme = names("README.md", r"^\| `(VALLOC_\w+)` \|")
compare("README.md", readme, readme & options)

for page in sorted((ROOT / "docs" / "man").iterdir()):
    if shutil.which("man"):
        done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page],
                              capture_output=True, text=True)
        wrong += done.stderr.splitlines()
if wrong:
    sys.exit("\n".join(wrong))
print(f"manual: {len(options)} options, {len(functions)} functions, {len(controls)} names of mallctl")
