/* weight.h: what a sample stands for.
 *
 * With a mean of R bytes between points of a Poisson process over all bytes allocated, an
 * allocation of S bytes has one of these points with probability
 *
 *   p = 1 - e^(-S/R)
 *
 * independently of others. Sampled so, it stands for 1/p objects and S/p bytes: the sums over the
 * samples are unbiased (Horvitz and Thompson). So is the estimate of their variance, the sum of
 * (1 - p) / p^2 * value^2 with 1 or S as the value; its root is the standard error. The truth
 * lies within two of them 19 times out of 20, unless a few small objects make up most of a sum. */
#ifndef VA_WEIGHT_H
#define VA_WEIGHT_H

#include "base/base.h"

/* Sums over samples. All are 0 if samples is. */
typedef struct Totals {
    uint64_t samples;
    double objects, bytes; /* that the samples stand for */
    double objects_variance, bytes_variance;
} Totals;

/* p, with a relative error below 1e-14. */
double va_weight_probability(size_t bytes, size_t rate);

/* A sample of so many bytes comes, or goes. Its probability may be that of a larger size, a slot's:
 * then the sums are of what was asked for. */
void va_weight_add(Totals *totals, size_t bytes, double probability);
void va_weight_subtract(Totals *totals, size_t bytes, double probability);

/* The bytes to the next point, by a random number. */
uint64_t va_weight_distance(uint64_t random, size_t rate);

/* The square root, for a standard error. */
double va_weight_root(double value);

#endif
