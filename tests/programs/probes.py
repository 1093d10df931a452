"""probes.py LIBRARY present|optimised|absent: the static probes that the library's notes list. A build that
found <sys/sdt.h> has all of them, another one none. Only optimised code has their arguments in registers."""

import platform
import re
import subprocess
import sys

library, wanted = sys.argv[1:]
PROBES = {("otel_memory", "alloc"), ("otel_memory", "free"), ("valloc", "purge"),
          ("valloc", "refill_from_arena"), ("valloc", "limit")}
# Readers take these arguments from where functions of C have theirs.
AT_ENTRY = {("otel_memory", "alloc"): "8@%rdi 8@%rsi 8@%rdx", ("otel_memory", "free"): "8@%rdi"}

notes = subprocess.run(["readelf", "-n", library], check=True, capture_output=True, text=True).stdout
found = {(provider, name): arguments.strip() for provider, name, arguments in
         re.findall(r"Provider: (\w+)\n +Name: (\w+)\n +Location: .*\n +Arguments:(.*)", notes)}
if set(found) != (set() if wanted == "absent" else PROBES):
    sys.exit(f"{library}: the probes are {found}\n{notes}")
for probe, arguments in AT_ENTRY.items():
    if wanted == "optimised" and platform.machine() == "x86_64" and found[probe] != arguments:
        sys.exit(f"{library}: {probe} has {found[probe]}, not {arguments}")
print(f"{library}: {len(found)} probes")
