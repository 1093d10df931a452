#!/usr/bin/env python3
"""Simulates how many threads valloc's shared places can serve, each thread on a processor of its own.

scaling.py [--milliseconds N] [--seed N]

A thread computes, then visits a shared place: it waits there until all who came before have left,
and stays for the hold time. Purges visit the arena lock as well. COUNTS has what was measured of real
runs: processor time per operation, visits per million operations, and hold times. Nothing else is
taken from the machine. Prints, for 4 to 256 threads, the speed as a part of what that many threads
would reach without waiting, and the place that was busy most. docs/scaling.md explains the counts and
the results."""

import argparse
import heapq
import random
from collections import namedtuple

# Per operation: nanoseconds of processor time. Per million operations: visits of the arena lock, of
# the registry's lock, and additions to the counter of used blocks. Nanoseconds that the arena lock is
# held. The number of threads is that of the run.
Counts = namedtuple("Counts", "work arena registry counter hold")
COUNTS = {
    "many": {16: Counts(48, 25, 1, 50, 1300), 64: Counts(52, 76, 1, 167, 770),
             256: Counts(68, 405, 2, 911, 430)},
    "phase": {16: Counts(15, 10, 1, 36, 1020), 64: Counts(25, 235, 2, 889, 340)},
    "batch": {4: Counts(70, 2190, 1, 7130, 150), 16: Counts(91, 2200, 3, 7130, 240),
              64: Counts(87, 2210, 52, 7960, 310), 256: Counts(87, 2360, 418, 7740, 320)},
    "all": {4: Counts(103, 39, 1, 92, 500)},
    "spawn": {4: Counts(220, 390, 17700, 1000, 280)},
}
REGISTRY_HOLD_NS = 78
# Groups of 64 blocks that are purged under the arena lock, per second and thread of `many`; what one
# takes, and what each further processor adds, which has to forget the addresses.
PURGES_PER_SECOND = 4
PURGE_NS = 80_000
SHOOTDOWN_NS = 100
# A cache line that another processor wrote: 40 to 60 ns within a socket, 100 to 200 across two.
LINE_NS = {"near": 50, "far": 150}
# Lines that a holder of the arena lock finds written by others: lock, counters, zone, groups, the
# tree of free runs, records.
ARENA_LINES = 8
REGISTRY_LINES = 4
THREADS = (4, 16, 64, 256)
Place = namedtuple("Place", "name visits hold")
PURGER = -1


def places(counts, line):
    """The shared places, with visits per operation."""
    return [Place("arena", counts.arena / 1e6, counts.hold + ARENA_LINES * line),
            Place("registry", counts.registry / 1e6, REGISTRY_HOLD_NS + REGISTRY_LINES * line),
            Place("counter", counts.counter / 1e6, line)]


def simulate(threads, work, shared, until, source):
    """What part of its time a thread computes, and what part of the time each place was busy."""
    visits = sum(place.visits for place in shared)
    weights = [place.visits for place in shared]
    free_at = [0.0] * len(shared)
    busy = [0.0] * len(shared)
    mean = work / visits  # ns from a visit to the next
    between_purges = 1e9 / PURGES_PER_SECOND / threads
    events = [(source.expovariate(1 / mean), n) for n in range(threads)]
    events.append((source.expovariate(1 / between_purges), PURGER))
    heapq.heapify(events)
    lost = 0.0  # waiting and inside, of all threads
    while events[0][0] < until:
        now, thread = events[0]
        if thread == PURGER:
            free_at[0] = max(free_at[0], now) + PURGE_NS + threads * SHOOTDOWN_NS
            busy[0] += PURGE_NS + threads * SHOOTDOWN_NS
            heapq.heapreplace(events, (now + source.expovariate(1 / between_purges), PURGER))
            continue
        at = source.choices(range(len(shared)), weights)[0]
        hold = source.expovariate(1 / shared[at].hold)
        free_at[at] = max(free_at[at], now) + hold
        busy[at] += hold
        lost += min(free_at[at], until) - now
        heapq.heapreplace(events, (free_at[at] + source.expovariate(1 / mean), thread))
    return 1 - lost / threads / until, [min(part / until, 1) for part in busy]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--milliseconds", type=float, default=50, help="simulated time of a run")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    until = options.milliseconds * 1e6
    print("pattern, part of the time in malloc and free, lines | " + " | ".join(map(str, THREADS)))
    for pattern, by_threads in COUNTS.items():
        for share in (1, 0.1):
            for distance, line in LINE_NS.items():
                cells = []
                for threads in THREADS:
                    counts = by_threads[max((n for n in by_threads if n <= threads),
                                            default=min(by_threads))]
                    shared = places(counts, line)
                    alone = sum(place.visits * place.hold for place in shared)
                    work = counts.work / share
                    computes, busy = simulate(threads, work, shared, until,
                                              random.Random(options.seed))
                    speed = computes * (work + alone) / work
                    most = max(range(len(busy)), key=busy.__getitem__)
                    cells.append(f"{speed:.2f} {shared[most].name} {busy[most]:.0%}")
                print(f"{pattern}, {share:.0%}, {distance} | " + " | ".join(cells))


if __name__ == "__main__":
    main()
