#!/usr/bin/env python3
"""Whole programs from the distribution on each allocator, by LD_PRELOAD, in turns.

run.py BUILD [--rounds N] [--only WORD] [--allocators A,B] [--extra NAME=LIBRARY]...

Prints medians of processor seconds (user + system) and peak resident MiB, then the geometric
means of valloc's share of each other allocator's. Programs that are not installed are left out,
and said so."""

import argparse
import math
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "c"))
from allocators import environment, find, in_turn  # noqa: E402

PYTHON = """
import json, random
random.seed(1)
class Node:
    def __init__(self, key): self.key, self.left, self.right = key, None, None
def insert(root, key):
    while True:
        side = "left" if key < root.key else "right"
        child = getattr(root, side)
        if child is None: setattr(root, side, Node(key)); return
        root = child
root = Node(0.5)
for _ in range(60000): insert(root, random.random())
data = [{"id": i, "name": str(i) * (i % 20), "tags": [str(t) for t in range(i % 12)]} for i in range(60000)]
for _ in range(3): data = json.loads(json.dumps(data))
words = {}
for row in data:
    for tag in row["tags"]: words.setdefault(tag + row["name"][:4], []).append(row["id"])
print(sum(len(v) for v in words.values()))
"""

PERL = r"""
my (%h, @a); srand(1);
for my $i (1 .. 400000) { push @{$h{int(rand(20000))}}, "v" x ($i % 90); }
for my $k (sort keys %h) { push @a, join(",", sort @{$h{$k}}); delete $h{$k} if $k % 3; }
my $n = 0; $n += length for @a; print "$n\n";
"""

SQL = """
create table t(id integer primary key, name text, value real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 600000)
insert into t select i, printf('name-%d-%d', i * 7919 % 100003, i), i / 7.0 from n;
create index by_name on t(name);
select count(*), sum(length(group_c)) from (select substr(name, 1, 8) k, group_concat(id) group_c from t group by k);
delete from t where id % 3 = 0; vacuum;
select count(*) from t a join t b on a.id = b.id + 1 where a.name < b.name;
"""

AWK = """BEGIN { srand(1); for (i = 0; i < 900000; i++) { k = int(rand() * 60000); a[k] = a[k] i % 10; if (length(a[k]) > 60) delete a[k] }
n = 0; for (k in a) n += length(a[k]); print n }"""

CPP = """
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>
template <int N> struct Work {
    std::map<std::string, std::vector<std::variant<int, double, std::string>>> table;
    std::unordered_map<int, std::function<std::string(int)>> calls;
    std::string run(const std::string &text) {
        static const std::regex word("[a-z]+" + std::to_string(N));
        for (std::sregex_iterator i(text.begin(), text.end(), word), e; i != e; ++i)
            table[i->str()].push_back(std::string(N, 'x'));
        calls[N] = [this](int n) { return std::to_string(n + N + table.size()); };
        std::set<std::string> all;
        for (auto &row : table) for (auto &v : row.second)
            all.insert(std::visit([](auto &x) { std::string s; if constexpr (std::is_same_v<std::decay_t<decltype(x)>, std::string>) s = x; else s = std::to_string(x); return s; }, v));
        return calls[N](N) + (all.empty() ? "" : *all.begin());
    }
};
template <int... N> std::string all(std::integer_sequence<int, N...>, const std::string &t) { return (Work<N>().run(t) + ...); }
int main(int, char **v) { std::cout << all(std::make_integer_sequence<int, 24>(), v[0]); }
"""

def smt(count=80):
    """Arrays, functions and sums over `count` integers; satisfiable."""
    lines = ["(set-logic QF_AUFLIA)", "(declare-fun f (Int) Int)", "(declare-const a (Array Int Int))"]
    lines += [f"(declare-const x{i} Int)" for i in range(count)]
    for i in range(count):
        one, two, three, seven = (f"x{(i + step) % count}" for step in (1, 2, 3, 7))
        far = f"x{(i * 5 + 1) % count}"
        lines += [
            f"(assert (= (f (+ x{i} {i})) (+ (select a {one}) {i % 5})))",
            f"(assert (or (< x{i} (+ {three} {i % 9})) (= (select (store a x{i} {i}) {seven}) (f {two}))))",
            f"(assert (distinct x{i} {far}))"]
    return "\n".join([*lines, "(check-sat)", ""])


POSTSCRIPT = """%!PS
/Helvetica findfont 9 scalefont setfont
/n 0 def
1 1 40 { /page exch def
  0 1 400 { /i exch def
    i 7 mul 560 mod 20 add i 13 mul page add 740 mod 20 add moveto
    i 3 mod 0 eq { (text of line ) show i page mul 20 string cvs show } if
    i 100 div 1 i 200 div sub abs 0.3 setrgbcolor
    i 5 mod 0 eq { i 11 mul 500 mod 50 add i 17 mul 700 mod 40 add 12 0 360 arc fill } if
    /d 10 dict def d /k i array put
  } for showpage } for
"""


class Programs:
    """name -> command; input files in a folder of their own."""

    def __init__(self, folder):
        def file(name, text):
            (folder / name).write_text(text)
            return str(folder / name)

        source = file("large.cpp", CPP)
        self.commands = {
            "python3": ["/usr/bin/python3", "-c", PYTHON],
            "perl": ["perl", "-e", PERL],
            "sqlite3": ["sqlite3", ":memory:", f".read {file('script.sql', SQL)}"],
            "gawk": ["gawk", AWK],
            "clang++": ["clang++", "-std=c++17", "-O1", "-c", source, "-o", "/dev/null"],
            "g++": ["g++", "-std=c++17", "-O1", "-c", source, "-o", "/dev/null"],
            "z3": ["z3", "-T:60", file("problem.smt2", smt())],
            "gs": ["gs", "-q", "-dNOPAUSE", "-dBATCH", "-sDEVICE=png16m", "-r100",
                   "-sOutputFile=/dev/null", file("page.ps", POSTSCRIPT)],
            "redis": ["redis-server"],
        }
        self.folder = folder

    def run(self, name, library):
        """Processor seconds and peak resident MiB."""
        if name == "redis":
            return self.redis(library)
        command = self.commands[name]
        process = subprocess.Popen(command, env={**environment(library), "PYTHONMALLOC": "malloc"},
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        error = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            sys.exit(f"{name} failed with {library or 'glibc'}: {error.decode()[-2000:]}")
        return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024

    def redis(self, library):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        server = subprocess.Popen(
            ["redis-server", "--port", port, "--save", "", "--dir", str(self.folder)],
            env=environment(library), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        client = ["redis-cli", "-p", port]
        while subprocess.run([*client, "ping"], capture_output=True).stdout != b"PONG\n":
            time.sleep(0.05)
        for load in (["-t", "set,lpush,sadd,hset,zadd", "-d", "200"], ["-t", "set,get", "-d", "3000"]):
            subprocess.run(["redis-benchmark", "-p", port, "-q", "-n", "150000", "-r", "100000",
                            "-P", "16", *load], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([*client, "shutdown", "nosave"], stdout=subprocess.DEVNULL)
        _, _, usage = os.wait4(server.pid, 0)
        return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="folder with libvalloc-override.so")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="programs, by commas")
    parser.add_argument("--allocators", type=lambda text: text.split(","))
    parser.add_argument("--extra", action="append", default=[], help="NAME=LIBRARY")
    options = parser.parse_args()
    libraries = find(options.build, options.allocators, options.extra)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        programs = Programs(Path(folder))
        chosen = options.only.split(",") if options.only else programs.commands
        print(f"{'seconds / peak MiB':12}", *(f"{name:>16}" for name in libraries))
        for program in chosen:
            if shutil.which(programs.commands[program][0]) is None:
                print(f"{program:12} is not installed")
                continue
            samples = {name: [] for name in libraries}
            for turn in range(options.rounds):
                for name, library in in_turn(libraries.items(), turn):
                    print(f"\r{program} {turn + 1}/{options.rounds} {name:12}", end="",
                          file=sys.stderr)
                    samples[name].append(programs.run(program, library))
            print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
            results[program] = {name: [statistics.median(column) for column in zip(*rows)]
                                for name, rows in samples.items()}
            print(f"{program:12}", *(f"{seconds:>8.2f} / {mib:>5.0f}"
                                     for seconds, mib in results[program].values()), flush=True)
    for other in libraries:
        if other == "valloc" or not results:
            continue
        shares = [[r["valloc"][i] / r[other][i] for r in results.values()] for i in (0, 1)]
        time_share, memory_share = (math.exp(statistics.mean(map(math.log, s))) for s in shares)
        print(f"valloc to {other}: time {time_share:.3f}, peak resident memory {memory_share:.3f}")


main()
