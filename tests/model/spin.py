#!/usr/bin/env python3
"""spin.py MODEL: checks a model in full with spin, and that each variant that its comment names, which
is broken, is rejected."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

MODEL = Path(__file__).with_name(sys.argv[1] + ".pml")
TEXT = MODEL.read_text()
VARIANTS = re.findall(r"^ \*   ((?:-D\w+ ?)+)", TEXT, re.M)
ALSO = re.findall(r"^ \* With (-D\w+) ", TEXT, re.M)


def errors(folder, *definitions):
    """How many violations spin finds in all reachable states, and the report's important lines."""
    def run(*command):
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout

    run("spin", *definitions, "-a", str(MODEL))
    run("gcc", "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", "-o", "pan", "pan.c")
    report = run("./pan", "-m100000", "-w24")
    if "Search not completed" in report and "errors: 0" in report:
        sys.exit(f"the search was cut short:\n{report}")
    lines = [line.strip() for line in report.splitlines() if re.search(r"errors:|states, stored|violated", line)]
    return int(re.search(r"errors: (\d+)", report).group(1)), "; ".join(lines)


with tempfile.TemporaryDirectory() as folder:
    for definitions in [[], *([also] for also in ALSO)]:
        count, report = errors(folder, *definitions)
        print(f"the protocol {' '.join(definitions)}: {report}")
        if count != 0:
            sys.exit("the protocol is broken")
    assert len(VARIANTS) >= 3, "the model names no variants"
    for variant in VARIANTS:
        count, report = errors(folder, *variant.split())
        print(f"{variant}: {report}")
        if count == 0:
            sys.exit(f"{variant}: the check does not see this error")
