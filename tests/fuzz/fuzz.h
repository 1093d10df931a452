/* fuzz.h: what the fuzzers share.
 *
 * A fuzzer is one function, LLVMFuzzerTestOneInput: clang's libFuzzer calls it, and so does
 * replay.c, which needs no more than a C compiler. It decodes the bytes of its input into a
 * sequence of operations, runs them on valloc and on a naive model, and aborts where the two
 * differ. Bytes that are missing read as zero, so every input is a valid sequence. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold. */
#define demand(condition)                                                                          \
    ((condition) ? (void)0                                                                         \
                 : (fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition), \
                    abort()))

typedef struct Input {
    const uint8_t *next;
    const uint8_t *end;
} Input;

static inline bool input_is_over(const Input *input)
{
    return input->next == input->end;
}

static inline uint8_t take_byte(Input *input)
{
    return input_is_over(input) ? 0 : *input->next++;
}

static inline uint16_t take_short(Input *input)
{
    uint16_t high = take_byte(input);
    return (uint16_t)(high << 8 | take_byte(input));
}

static inline uint64_t take_word(Input *input)
{
    uint64_t word = 0;
    for (int i = 0; i < 8; i++)
        word = word << 8 | take_byte(input);
    return word;
}

/* A number below `end`. */
static inline size_t take_below(Input *input, size_t end)
{
    return (end <= 256 ? take_byte(input) : take_short(input)) % end;
}

#endif
