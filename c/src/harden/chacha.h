/* chacha.h: ChaCha with 8 rounds, a stream cipher whose key cannot be told from its output: the
 * random numbers of secure builds. Pure. By rows, as vectors: word by word takes three times as
 * long. */
#ifndef VA_CHACHA_H
#define VA_CHACHA_H

#include <string.h>

#include "base/base.h"

#define VA_CHACHA_ROUNDS 8
#define VA_CHACHA_KEY_WORDS 8
#define VA_CHACHA_WORDS 16

typedef uint32_t ChachaRow __attribute__((vector_size(16)));

#define VA_CHACHA_TURN(row, bits) ((row) = (row) << (bits) | (row) >> (32 - (bits)))
/* The words of a row move to the left. */
#ifdef __clang__
#define VA_CHACHA_MOVE(row, a, b, c, d)                                                            \
    ((row) = __builtin_shufflevector((row), (row), (a), (b), (c), (d)))
#else
#define VA_CHACHA_MOVE(row, a, b, c, d)                                                            \
    ((row) = __builtin_shuffle((row), (ChachaRow){(a), (b), (c), (d)}))
#endif

/* Block number `counter` of the key's stream. */
static inline void va_chacha_block(const uint32_t *key, uint64_t counter, uint32_t *block)
{
    const ChachaRow start[4] = {{0x61707865, 0x3320646e, 0x79622d32, 0x6b206574},
                                {key[0], key[1], key[2], key[3]},
                                {key[4], key[5], key[6], key[7]},
                                {(uint32_t)counter, (uint32_t)(counter >> 32), 0, 0}};
    ChachaRow a = start[0];
    ChachaRow b = start[1];
    ChachaRow c = start[2];
    ChachaRow d = start[3];
    for (unsigned round = 0; round < VA_CHACHA_ROUNDS; round++) {
        a += b, d ^= a, VA_CHACHA_TURN(d, 16);
        c += d, b ^= c, VA_CHACHA_TURN(b, 12);
        a += b, d ^= a, VA_CHACHA_TURN(d, 8);
        c += d, b ^= c, VA_CHACHA_TURN(b, 7);
        VA_CHACHA_MOVE(c, 2, 3, 0, 1);
        if (round % 2 == 0) { /* columns, then diagonals */
            VA_CHACHA_MOVE(b, 1, 2, 3, 0);
            VA_CHACHA_MOVE(d, 3, 0, 1, 2);
        } else {
            VA_CHACHA_MOVE(b, 3, 0, 1, 2);
            VA_CHACHA_MOVE(d, 1, 2, 3, 0);
        }
    }
    const ChachaRow end[4] = {a + start[0], b + start[1], c + start[2], d + start[3]};
    memcpy(block, end, sizeof end);
}

#endif
