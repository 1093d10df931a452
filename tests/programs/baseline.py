"""baseline.py LIBRARY...: no instruction in a library is newer than the first x86-64 processors."""

import os
import re
import subprocess
import sys

# AVX and later begin with v; BMI, popcnt, SSE3 to SSE4, crc32, movbe by name. tzcnt is left out: an
# old processor runs it as bsf, which is the same for what is not 0, and compilers rely on that.
NEWER = re.compile(
    r"\t(v(?!er[rw]|m)\w+|andn|bextr|blsi|blsmsk|blsr|bzhi|mulx|pdep|pext|rorx|sarx|shlx|shrx|lzcnt|"
    r"popcnt|crc32\w*|movbe|adcx|adox|pshufb|palignr|pblend\w+|pmov[sz]x\w+|ptest|pinsr[bdq]|"
    r"pextr[bdq]|pm(?:ax|in)(?:s[bd]|u[dw])|pmulld|pcmpeqq|pcmpgtq|round\w+|lddqu|movddup|haddp[sd])\b")

for library in sys.argv[1:] + [os.environ["VALLOC_OVERRIDE"]]:
    listing = subprocess.run(["objdump", "-d", "--no-show-raw-insn", library], check=True,
                             stdout=subprocess.PIPE, text=True).stdout
    instructions = listing.count("\t")
    newer = [line for line in listing.splitlines() if NEWER.search(line)]
    if newer:
        sys.exit(f"{library}:\n" + "\n".join(newer))
    if instructions < 1000:
        sys.exit(f"{library}: no listing")
    print(f"{os.path.basename(library)}: {instructions} instructions, all of the first x86-64")
