"""profile.py PROFILE_SITES FLAMEGRAPH: the readers that the formats are made for find in a profile what
the program knows of its sites: `go tool pprof` and google-pprof, if they are there, and our own."""

import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

sites_program, flamegraph = sys.argv[1:]
ALLOCATED_OBJECTS, ALLOCATED_BYTES, LIVE_OBJECTS, LIVE_BYTES = range(4)
KINDS = {"alloc_objects": ALLOCATED_OBJECTS, "alloc_space": ALLOCATED_BYTES,
         "inuse_objects": LIVE_OBJECTS, "inuse_space": LIVE_BYTES}


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300,
                          **options).stdout


def compare(reader, kind, found):
    """What a reader tells of each site, and of all, with numbers that were rounded once."""
    expected = {name: values[KINDS[kind]] for name, values in sites.items()}
    expected["total"] = sum(expected.values())
    for name, value in expected.items():
        if abs(found.get(name, -9) - value) > (2 if name != "total" else 6):
            sys.exit(f"{reader}, {kind}: {found}, not {expected}")
    print(f"{reader}, {kind}: {found['total']} in all, as it should be")


def read_pprof(profile, kind):
    text = run("go", "tool", "pprof", "-top", "-unit=B", "-nodefraction=0", "-nodecount=9999",
               f"-sample_index={kind}", sites_program, profile)
    found = {name: int(cumulative) for cumulative, name in
             re.findall(r"^ *\d+B? +\S+ +\S+ +(\d+)B? +\S+ +(site_\w+)", text, re.M)}
    found["total"] = int(re.search(r"of (\d+)B? total", text)[1])
    return found


def read_google_pprof(profile, kind):
    text = run("google-pprof", "--text", "--show_bytes", "--nodefraction=0", "--edgefraction=0",
               f"--{kind}", sites_program, profile)
    found = {name: int(cumulative) for cumulative, name in
             re.findall(r"^ *\d+ +\S+ +\S+ +(\d+) +\S+ +(site_\w+)", text, re.M)}
    found["total"] = int(re.search(r"^Total: (\d+)", text, re.M)[1])
    return found


def read_folded(folder, name):
    """By way of the flame graph: its titles round sizes, so the numbers are those of its frames."""
    root = ElementTree.fromstring(run(flamegraph, f"{folder}/{name}"))
    found = {}
    for group in root.iter("{http://www.w3.org/2000/svg}g"):
        function = group.get("data-name")
        key = "total" if function == "all" else function
        found[key] = found.get(key, 0) + int(group.get("data-bytes"))
    return found


with tempfile.TemporaryDirectory() as folder:
    sites = {}
    for line in run(sites_program, folder).splitlines():
        name, *values = line.split()
        sites[name] = [int(value) for value in values]
    for kind in KINDS:
        if shutil.which("go"):
            compare("pprof", kind, read_pprof(f"{folder}/pprof", kind))
            compare("pprof, text", kind, read_pprof(f"{folder}/heap", kind))
        if shutil.which("google-pprof"):
            compare("google-pprof", kind, read_google_pprof(f"{folder}/heap", kind))
    if shutil.which("addr2line"):
        compare("flame graph", "inuse_space", read_folded(folder, "folded"))
        compare("flame graph", "alloc_space", read_folded(folder, "folded_all"))
    if shutil.which("go"):
        comments = run("go", "tool", "pprof", "-comments", f"{folder}/pprof")
        if not re.search(r"standard error of inuse_space, bytes: [1-9]", comments):
            sys.exit(f"no standard error: {comments}")
        tags = run("go", "tool", "pprof", "-tags", f"{folder}/pprof")
        if not re.search(r" allocator: .*\n.*: requests\n", tags):
            sys.exit(f"no label: {tags}")
        build_id = re.search(r"Build ID: (\w+)", run("readelf", "-n", sites_program))
        raw = run("go", "tool", "pprof", "-raw", f"{folder}/pprof")
        if build_id and f"{sites_program} {build_id[1]}" not in raw:
            sys.exit(f"no build id {build_id[1]}: {raw[-3000:]}")
