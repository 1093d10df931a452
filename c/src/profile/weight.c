/* weight.c: see weight.h. The core does without libm. */
#include "profile/weight.h"

#include "base/config.h"

/* e^-40 is below the last bit of 1. */
#define CERTAIN 40.0

/* The series converges fast for small x, and 1 - e^-2x = q * (2 - q) if q is 1 - e^-x: each such
 * step lowers the relative error. */
VA_COLD double va_weight_probability(size_t bytes, size_t rate)
{
    double x = (double)va_max(bytes, 1) / (double)rate;
    unsigned halvings = 0;
    double q = 0;
    if (x > CERTAIN)
        return 1;
    while (x > 0.125) {
        x /= 2;
        halvings++;
    }
    for (int term = 10; term > 0; term--) /* x * (1 - x/2 * (1 - x/3 * (1 - ... */
        q = x / term * (1 - q);
    for (; halvings > 0; halvings--)
        q *= 2 - q;
    return q;
}

/* For 0 < x <= 1: x is m * 2^e with m from 1 to 2, and ln m = 2 * (s + s^3/3 + s^5/5 + ...) with s
 * = (m - 1) / (m + 1), which is below 1/3. */
static VA_COLD double natural_log(double x)
{
    static const double ln_2 = 0.69314718055994530942;
    double exponent = 0;
    double series = 0;
    while (x < 1) {
        x *= 2;
        exponent--;
    }
    double s = (x - 1) / (x + 1);
    for (int power = 27; power > 0; power -= 2)
        series = series * s * s + 1.0 / power;
    return exponent * ln_2 + 2 * s * series;
}

/* Exponentially distributed: the distance exceeds x with probability e^(-x/R). */
VA_COLD uint64_t va_weight_distance(uint64_t random, size_t rate)
{
    double fraction = ((double)(random >> 11) + 1) / 9007199254740992.0; /* 2^53 */
    double bytes = -natural_log(fraction) * (double)rate;
    return bytes < (double)PTRDIFF_MAX ? (uint64_t)bytes : PTRDIFF_MAX;
}

static VA_COLD void sum(Totals *totals, double sign, double bytes, double probability)
{
    double variance = sign * (1 - probability) / (probability * probability);
    totals->objects += sign / probability;
    totals->bytes += sign * bytes / probability;
    totals->objects_variance += variance;
    totals->bytes_variance += variance * bytes * bytes;
}

VA_COLD void va_weight_add(Totals *totals, size_t bytes, double probability)
{
    totals->samples++;
    sum(totals, 1, (double)bytes, probability);
}

/* Nothing of rounding errors stays when the last one goes. */
VA_COLD void va_weight_subtract(Totals *totals, size_t bytes, double probability)
{
    if (--totals->samples == 0)
        *totals = (Totals){.samples = 0};
    else
        sum(totals, -1, (double)bytes, probability);
}

/* Newton's method from above: it falls until it is there. */
VA_COLD double va_weight_root(double value)
{
    double root = value > 1 ? value : 1;
    if (!(value > 0))
        return 0;
    for (;;) {
        double next = (root + value / root) / 2;
        if (next >= root)
            return root;
        root = next;
    }
}
