"""golden.py PAIRS KEY: instructions that a malloc and a free execute on their hot paths, counted
by callgrind, against golden.json's entry for this compiler and machine. BLESS=1 rewrites it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

GOLDEN = Path(__file__).with_name("golden.json")
LIMITS = {"malloc": 16, "free": 20}  # promised for every compiler
FEW, MANY = 1000, 11000


def counts(pairs, number, size):
    """Instructions by function: the override's own names only."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "out"
        subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--soname-synonyms=somalloc=none",
             pairs, str(number), str(size)],
            env={**os.environ, "LD_PRELOAD": os.environ["VALLOC_OVERRIDE"]},
            check=True, capture_output=True)
        table = subprocess.run(["callgrind_annotate", "--threshold=100", str(out)],
                               check=True, capture_output=True, text=True).stdout
    found = {}
    for line in table.splitlines():
        match = re.match(r"\s*([\d,]+)\s.*?[:/](\w+)(?:'\d+)? \[.*valloc-override", line)
        if match:
            found[match[2]] = found.get(match[2], 0) + int(match[1].replace(",", ""))
    return found


def main():
    pairs, key = sys.argv[1:]
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: skipped")
        return 77
    measured = {}
    for size in 8, 64, 1024, 32768:
        few, many = counts(pairs, FEW, size), counts(pairs, MANY, size)
        for name in LIMITS:
            measured[f"{name} {size}"] = (many[name] - few[name]) / (MANY - FEW)
    for what, count in measured.items():
        print(f"{what:>14} bytes: {count:g} instructions")
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("BLESS") == "1":
        golden[key] = measured
        GOLDEN.write_text(json.dumps(golden, indent=2, sort_keys=True) + "\n")
    over = [w for w, count in measured.items() if count > LIMITS[w.split()[0]]]
    if over:
        sys.exit(f"above the promised {LIMITS}: {over}")
    if key not in golden:
        print(f"no golden counts for {key}: only the limits were checked")
    elif golden[key] != measured:
        sys.exit(f"golden.json says {golden[key]}; BLESS=1 accepts the new counts")
    return 0


sys.exit(main())
