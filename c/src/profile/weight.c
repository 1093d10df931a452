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
