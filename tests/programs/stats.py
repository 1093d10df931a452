"""stats.py SCHEMA: statistics at the exit of a program, as the environment asks for them; the JSON fits
the schema; malloc_info and mallinfo2 tell the same."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

from support import preloaded

PROGRAM = [sys.executable, "-c", "x = [str(i) * 3 for i in range(100000)]; del x"]


def at_exit(value):
    done = subprocess.run(PROGRAM, env=preloaded(VALLOC_STATS=value, PYTHONMALLOC="malloc"),
                          capture_output=True, check=True, text=True)
    return done.stderr


def check(condition, what):
    if not condition:
        sys.exit(what)


def fits(value, schema):
    """Of JSON Schema what ours uses: every member is known and there, with its type."""
    if schema["type"] == "object":
        return (set(value) == set(schema["required"]) == set(schema["properties"]) and
                all(fits(value[name], member) for name, member in schema["properties"].items()))
    if schema["type"] == "array":
        return isinstance(value, list) and all(fits(item, schema["items"]) for item in value)
    if schema["type"] == "boolean":
        return isinstance(value, bool)
    return type(value) is int and value >= schema["minimum"]


def check_json():
    heap = json.loads(at_exit("json"))
    with open(sys.argv[1]) as schema:
        check(fits(heap, json.load(schema)), "the JSON does not fit its schema")
    classes = heap["classes"]
    check(heap["lent"] == heap["live"] + heap["cached"] + heap["free_slots"] + heap["spare"] +
          heap["slack"], "the parts of `lent` are not the whole")
    check(heap["live"] == sum(row["live_bytes"] for row in classes), "live is not the classes' sum")
    check(heap["cached"] == sum(cache["cached"] for cache in heap["thread_caches"]),
          "cached is not the caches' sum")
    for row in classes:
        check(row["slots"] == row["live"] + row["cached"] + row["free_slots"], f"{row}")
        check(row["refilled"] >= row["live"] + row["cached"] or not 0 < row["slot_size"] < 65536, f"{row}")
    print(f"JSON: {heap['live'] >> 10} KiB live in {len(classes)} classes")


LINE = re.compile(r'(valloc_\w+)(?:\{slot_size="(\d+)"\})? (\d+)')


def check_metrics():
    types, values = {}, {}
    for line in at_exit("prometheus").splitlines():
        if line.startswith("# TYPE "):
            name, types[name] = line.split()[2:]
            continue
        name, slot_size, value = LINE.fullmatch(line).groups()
        check(name in types and name == list(types)[-1], f"{line}: not below its type")
        check((name, slot_size) not in values, f"{line}: twice")
        values[name, slot_size] = int(value)
    with open(sys.argv[1]) as schema:
        schema = json.load(schema)["properties"]
    rows = [name for name in schema["classes"]["items"]["properties"] if name != "slot_size"]
    totals = [re.sub("_bytes(_total)?$", "", name[7:]) for name in types if "_class_" not in name]
    check(set(totals) == set(schema) - {"version", "classes", "thread_caches"}, f"{totals}")
    check([re.sub("_total$", "", name[13:]) for name in types if "_class_" in name] == rows, f"{list(types)}")
    counters = {name for name, kind in types.items() if kind == "counter"}
    check(counters == {"valloc_purged_bytes_total", "valloc_class_refilled_total"}, types)
    live = sum(value for (name, _), value in values.items() if name == "valloc_class_live_bytes")
    check(values["valloc_live_bytes", None] == live > 0, "live is not the classes' sum")
    print(f"Prometheus: {len(types)} metrics, {len(values)} values")


def check_text():
    text = at_exit("1")
    check(text.startswith("valloc\n"), "no heading")
    check("\ncommitted" in text and "\n slot size    blocks " in text, "no table")
    check("\nthread cache 1: " in text, "no thread cache")
    check(at_exit("0") == "", "statistics unasked for")
    check("option ignored: VALLOC_STATS=much (understood: 0, 1, json, prometheus)\n" in at_exit("much"),
          "a wrong value is not told")
    print("text: a table, or nothing")


# Under the override: what its malloc_info and mallinfo2 say before and after a large allocation.
WITHIN = """
import ctypes
libc = ctypes.CDLL(None)
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost")]
libc.mallinfo2.restype = Info
libc.malloc.restype = ctypes.c_void_p
libc.fdopen.restype = ctypes.c_void_p
before = libc.mallinfo2()
block = libc.malloc(ctypes.c_size_t(50 << 20))
after = libc.mallinfo2()
assert 0 <= after.hblkhd - before.hblkhd - (50 << 20) < 100000, (before.hblkhd, after.hblkhd)
assert after.hblks == before.hblks + 1
assert abs(after.uordblks - before.uordblks) < 100000, (before.uordblks, after.uordblks)
assert after.uordblks + after.fordblks == after.arena
stream = ctypes.c_void_p(libc.fdopen(1, b"w"))
assert libc.malloc_info(0, stream) == 0
libc.fflush(stream)
libc.malloc_stats()
"""


def check_libc_names():
    done = subprocess.run([sys.executable, "-c", WITHIN], env=preloaded(), capture_output=True, text=True)
    check(done.returncode == 0, done.stderr)
    totals = {total.get("type"): int(total.get("size") or total.get("count"))
              for total in ElementTree.fromstring(done.stdout).iter("total")}
    check(totals["lent"] >= totals["live"] + totals["cached"] > 50 << 20, f"{totals}")
    check("\n slot size    blocks " in done.stderr, "malloc_stats prints no table")
    print("malloc_info, mallinfo2, malloc_stats: as the statistics")


check_json()
check_metrics()
check_text()
check_libc_names()
