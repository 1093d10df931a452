"""Where the allocators to preload are: valloc's own build and the distribution's packages."""

import os
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
            print(f"{name}: {library} is not installed", file=sys.stderr)
    if names:
        found = {name: found[name] for name in names}
    for item in extra:
        name, _, library = item.partition("=")
        found[name] = str(Path(library).resolve())
    return found


def environment(library):
    return {**os.environ, "LD_PRELOAD": library} if library else dict(os.environ)


def in_turn(items, turn):
    """The items, beginning with another one in every turn: nobody is always the first."""
    items = list(items)
    return items[turn % len(items):] + items[:turn % len(items)]
