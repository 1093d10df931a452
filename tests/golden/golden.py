"""golden.py OPERATIONS KEY: instructions that valloc's paths execute, counted by callgrind, against
golden.json's entry for this compiler and machine. BLESS=1 rewrites it.

Fast paths have to match exactly. What is amortised over refills and flushes may differ by 2 %:
addresses decide where slabs lie, and threads when they meet."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benches" / "common"))
import callgrind  # noqa: E402

GOLDEN = Path(__file__).with_name("golden.json")
LIMITS = {"malloc": 21, "free": 26}  # promised for every compiler, up to VA_SMALL_MAX
AMORTISED = 1.02

# Operation, size; then the calls whose path is looked at, and what it is called in golden.json.
FAST = [
    *(("pair", size, {"malloc": f"malloc {size}", "free": f"free {size}"})
      for size in (8, 64, 1024, 32768)),
    ("pair", 65536, {"malloc": "malloc of a run", "free": "free of a run"}),
    ("sized", 64, {"new": "operator new 64", "sized": "sized free 64"}),
    ("exchange", 64, {"free": "free of another owner's 64"}),
    ("batch", 64, {"allocate_batch": "batch of 100, 64", "free_batch": "free of a batch of 100, 64"}),
    ("instance", 64, {"allocate": "valloc_allocate 64", "release": "free_valloc 64"}),
]
# All of valloc's instructions per call, and free: libc's share depends on its version.
BOTH = [("calloc", 64, "calloc", "calloc and free"), ("aligned", 64, "aligned", "aligned and free"),
        ("resize", 64, "realloc", "realloc to another class,")]
BULK = [("fresh", 64, "malloc"), ("ordered", 64, "malloc"), ("random", 64, "malloc"),
        ("remote", 32, "malloc"), ("loop", 16384, "malloc"), ("pair", 3 << 20, "malloc")]


def measure(operations):
    """Name -> instructions per operation: of the fast paths, and of amortised ones."""
    library = os.environ["VALLOC_OVERRIDE"]

    def profile(operation, size):
        return callgrind.count([operations, operation, size], library)

    def own(operation, size, call):
        counted = profile(operation, size)
        return sum(cost for name, cost in counted.own.items() if name.startswith("libvalloc")) \
            / counted.calls[call]

    fast = {}
    for operation, size, paths in FAST:
        counted = profile(operation, size)
        for call, name in paths.items():
            # A refill now and then, at the start of a thread, is not the path.
            fast[name] = round(counted.costs[call] / counted.calls[call])
    for operation, size, call, name in BOTH:
        fast[f"{name} {size}"] = round(own(operation, size, call))
    bulk = {f"{operation} {size}, all": round(own(operation, size, call), 1)
            for operation, size, call in BULK}
    return fast, bulk


def main():
    operations, key = sys.argv[1:]
    if not callgrind.available():
        print("valgrind is not installed: skipped")
        return 77
    fast, bulk = measure(operations)
    measured = fast | bulk
    for what, count in measured.items():
        print(f"{what:>32}: {count:g} instructions")
    golden = json.loads(GOLDEN.read_text())
    if os.environ.get("BLESS") == "1":
        golden[key] = measured
        GOLDEN.write_text(json.dumps(golden, indent=2, sort_keys=True) + "\n")
    over = [name for name, count in fast.items()
            if count > LIMITS.get(name.split()[0], count) and name.split()[1].isdigit()]
    if over:
        sys.exit(f"above the promised {LIMITS}: {over}")
    if key not in golden:
        print(f"no golden counts for {key}: only the limits were checked")
        return 0
    known = golden[key]
    wrong = [name for name in measured.keys() | known.keys()
             if name not in measured or name not in known
             or (name in fast and measured[name] != known[name])
             or not known[name] / AMORTISED <= measured[name] <= known[name] * AMORTISED]
    for name in sorted(wrong):
        print(f"{name}: {measured.get(name)} instructions, golden.json says {known.get(name)}",
              file=sys.stderr)
    if wrong:
        sys.exit("BLESS=1 accepts the new counts")
    return 0


sys.exit(main())
