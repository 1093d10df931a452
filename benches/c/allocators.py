"""What the comparisons by LD_PRELOAD share: where the allocators are (valloc's own build and the
distribution's packages), turns, spread, files of samples."""

import csv
import os
import statistics
import sys
from pathlib import Path

PEERS = {
    "mimalloc": "libmimalloc.so.2",
    "jemalloc": "libjemalloc.so.2",
    "tcmalloc": "libtcmalloc_minimal.so.4",
}


def find(build, names=None, extra=()):
    """Name -> library to preload ('' for glibc). names: only these of ours and the peers.
    extra: NAME=LIBRARY, for other versions."""
    folders = [Path("/usr/lib") / f"{os.uname().machine}-linux-gnu", Path("/usr/lib")]
    found = {"valloc": str(Path(build).resolve() / "libvalloc-override.so"), "glibc": ""}
    for name, library in PEERS.items():
        for folder in folders:
            if (folder / library).exists():
                found[name] = str(folder / library)
                break
        else:
            print(f"{name}: {library} is not installed; .ci/setup.sh bench installs it",
                  file=sys.stderr)
    if not Path(found["valloc"]).exists() and (names is None or "valloc" in names):
        sys.exit(f"{found['valloc']} is not built; make builds it")
    if names:
        missing = [name for name in names if name not in found]
        if missing:
            sys.exit(f"no allocator named {missing[0]}; there are {', '.join(found)}")
        found = {name: found[name] for name in names}
    for item in extra:
        name, _, library = item.partition("=")
        if not Path(library).is_file():
            sys.exit(f"--extra {item}: there is no such library; NAME=LIBRARY is wanted")
        found[name] = str(Path(library).resolve())
    return found


def environment(library):
    return {**os.environ, "LD_PRELOAD": library} if library else dict(os.environ)


def in_turn(items, turn):
    """The items, beginning with another one in every turn: nobody is always the first."""
    items = list(items)
    return items[turn % len(items):] + items[:turn % len(items)]


def quartiles(values):
    """Lower quartile, median, upper quartile."""
    if len(values) == 1:
        return [values[0]] * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def spread(values):
    """Half the distance of the quartiles, in percent of the median."""
    lower, middle, upper = quartiles(values)
    return (upper - lower) / 2 / middle * 100 if middle else 0.0


def write_csv(path, columns, rows):
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(rows)
