"""crimes.py TOOL PROGRAM [PRELOAD]: what memcheck or AddressSanitizer says of each crime of crimes.c,
by the kinds of its errors."""

import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from pathlib import Path

READ, WRITE, FREE = "InvalidRead", "InvalidWrite", "InvalidFree"
LOST = "Leak_DefinitelyLost"
# Crime: memcheck's kinds, AddressSanitizer's access, valloc's own word before it aborts.
CRIMES = {
    "no_crime": ([], None, None),
    "leak": ([LOST, LOST], None, None),
    "overrun": ([WRITE], "WRITE", None),
    "overrun_in_the_slack": ([WRITE], "WRITE", None),
    "overrun_of_a_large": ([WRITE], "WRITE", None),
    "overrun_of_an_aligned": ([READ], "READ", None),
    "overrun_of_a_shrunk": ([READ], "READ", None),
    "use_after_free": ([READ], "READ", None),
    "use_after_a_free_elsewhere": ([READ], "READ", None),
    "use_after_realloc": ([READ], "READ", None),
    "use_of_the_undefined": (["UninitCondition"], None, None),
    "free_twice": ([FREE], None, "free: freed already"),
    "free_of_the_middle": ([], None, "free: not the start of an allocation"),
    "own_overrun": ([WRITE], "WRITE", None),
    "own_use_after_free": ([READ], "READ", None),
    "own_use_after_destroy": ([READ], "READ", None),
    "own_leak": ([LOST], None, None),
}
tool, program = sys.argv[1:3]
preload = sys.argv[3] if len(sys.argv) > 3 else None
wrong = []


def memcheck(crime, kinds, said):
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        command = ["valgrind", "--leak-check=full", "--xml=yes", f"--xml-file={report}",
                   "--vgdb=no"]
        environment = dict(os.environ)
        if preload is not None:
            # Without this memcheck's own malloc takes the place of the library's.
            command.append("--soname-synonyms=somalloc=nouserintercepts")
            environment["LD_PRELOAD"] = preload
        result = subprocess.run([*command, program, crime], stdin=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True, env=environment)
        found = [error.findtext("kind") for error in xml.parse(report).iter("error")]
    if said is not None:  # it aborts: what was not freed by then is no leak of the crime's
        found = [kind for kind in found if not kind.startswith("Leak_")]
        return result.returncode != 0 and said in result.stderr and found == kinds, found
    return result.returncode == 0 and found == kinds, found


def asan(crime, access, said):
    result = subprocess.run([program, crime], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            text=True, env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"})
    if access is not None:
        good = ("AddressSanitizer: use-after-poison" in result.stderr
                and re.search(rf"^{access} of size 1 ", result.stderr, re.M))
    else:
        good = said in result.stderr if said is not None else result.returncode == 0
    return bool(good), result.stderr[:300]


for crime, (kinds, access, said) in CRIMES.items():
    if preload is not None and crime.startswith("own_"):
        continue
    good, found = (memcheck(crime, kinds, said) if tool == "memcheck" else
                   asan(crime, access, said))
    print(f"{'as expected' if good else 'WRONG'}: {crime}: {found}")
    if not good:
        wrong.append(crime)
if wrong:
    sys.exit(f"not as expected: {', '.join(wrong)}")
