#!/usr/bin/env python3
"""Proves the functions of bitmap.h for every input, by z3: what C computes, step for step in bit
vectors, against what the comments there promise. A wrong variant of each has to be refuted. (The
size classes need no prover: their unit test tries every size.)"""

import subprocess
import sys

WORD = "(_ BitVec 64)"


def bv(value):
    return f"(_ bv{value % 2**64} 64)"


def holds(declarations, claim):
    """Is the claim true for all values of the declared constants?"""
    script = "(set-logic QF_BV)\n" + "".join(f"(declare-const {n} {WORD})\n" for n in declarations)
    script += f"(assert (not {claim}))\n(check-sat)\n"
    answer = subprocess.run(["z3", "-in", "-T:300"], input=script, capture_output=True,
                            text=True).stdout.strip()
    if answer not in ("sat", "unsat"):
        sys.exit(f"z3: {answer}\n{script}")
    return answer == "unsat"


def find_ones(count, last_step=0):
    """va_word_find_ones up to its last line: bit i of the result says `count` ones start at i."""
    word, have = "x", 1
    while have < count:
        step = min(have, count - have)
        word = f"(bvand {word} (bvlshr {word} {bv(step + (last_step if have + step == count else 0))}))"
        have += step
    return word


def ones_start_at(count):
    """The same, by definition: x and x >> 1 and ... and x >> (count - 1)."""
    shifted = " ".join(f"(bvlshr x {bv(i)})" for i in range(count))
    return f"(bvand {shifted})"


def mask(low_shift="bvshl"):
    """va_bitmap_mask's value for word w of a set of bits [f, f + c)."""
    base = "(bvmul w (_ bv64 64))"
    low = f"(ite (bvult {base} f) (bvsub f {base}) (_ bv0 64))"
    end = f"(bvsub (bvadd f c) {base})"
    below = f"(ite (bvuge {end} (_ bv64 64)) {bv(-1)} (bvsub (bvshl (_ bv1 64) {end}) (_ bv1 64)))"
    return f"(bvand {below} ({low_shift} {bv(-1)} {low}))"


# What callers guarantee: the word touches the range; nothing overflows.
TOUCHES = ("(and (bvult f (_ bv4294967296 64)) (bvult c (_ bv4294967296 64)) (bvugt c (_ bv0 64)) "
           "(bvult w (_ bv134217728 64)) (bvult (bvmul w (_ bv64 64)) (bvadd f c)) "
           "(bvult f (bvadd (bvmul w (_ bv64 64)) (_ bv64 64))) (bvult i (_ bv64 64)))")
BIT = "(bvadd (bvmul w (_ bv64 64)) i)"
INSIDE = f"(and (bvuge {BIT} f) (bvult {BIT} (bvadd f c)))"


def mask_claim(value):
    bit_set = f"(= (bvand (bvlshr {value} i) (_ bv1 64)) (_ bv1 64))"
    return f"(=> {TOUCHES} (= {bit_set} {INSIDE}))"


def must(what, claim_holds, expected=True):
    if claim_holds != expected:
        sys.exit(f"{what}: {'refuted' if expected else 'the check does not see the error'}")


for count in range(2, 64):
    must(f"find_ones, {count}", holds(["x"], f"(= {find_ones(count)} {ones_start_at(count)})"))
must("find_ones, broken", holds(["x"], f"(= {find_ones(13, 1)} {ones_start_at(13)})"), False)
print("find_ones: every word, every count")

must("mask", holds(["w", "f", "c", "i"], mask_claim(mask())))
must("mask, broken", holds(["w", "f", "c", "i"], mask_claim(mask("bvashr"))), False)
print("mask: every word of every range below 2^32")
