"""predict.py PROGRAM: what it prints depends on random numbers from the first allocation on."""

import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "programs"))
from support import run

lines = [run([sys.argv[1]]) for _ in range(6)]
for column in zip(*(line.split() for line in lines)):
    if len(set(column)) == 1:
        sys.exit(f"always the same: {lines}")
print(f"{lines}")
