"""leaks.py PROGRAM: what VALLOC_SHOW_LEAKS says of the program leaks, and that it is silent without."""

import os
import re
import subprocess
import sys


def run(*arguments, show="1"):
    result = subprocess.run([sys.argv[1], *arguments], capture_output=True, text=True, check=True,
                            env=os.environ | {"VALLOC_SHOW_LEAKS": show})
    return result.stderr, int(result.stdout)


def must(condition, text):
    if not condition:
        sys.exit(f"unexpected:\n{text}")


BLOCK = 65536
text, large = run()
print(text, end="")
lines = dict(re.findall(r"^valloc: (\d+ (?:of|larger).*?), (\d+) bytes$", text, re.M))
# libc has allocations of its own, of other sizes than these.
must(lines.get("7 of 3072 bytes") == str(7 * 3072), text)
GUARD = 4096  # of each run in secure builds
must(any(lines.get(f"2 of {run} bytes") == str(2 * run) for run in (BLOCK, BLOCK - GUARD)), text)
must(lines.get("3 larger ones") == str(3 * ((large + BLOCK - 1) // BLOCK * BLOCK)), text)
for freed in (640, 20480, 5120):
    must(f" of {freed} bytes" not in text, text)
total = re.search(r"^valloc: (\d+) slots in use at exit, (\d+) bytes$", text, re.M)
must(int(total[2]) == sum(map(int, lines.values())), text)
must(int(total[1]) == sum(int(line.split()[0]) for line in lines), text)
must("other threads" not in text, text)
must("other threads may hold up to" in run("running")[0], text)
must(run(show="0")[0] == "", "not silent")
must("option ignored: VALLOC_SHOW_LEAKS=yes (understood: 0, 1)" in run(show="yes")[0], "not rejected")
