/* What the benchmarks in C share: a clock, percentiles, and one line of JSON a measurement. */
#ifndef TIMING_H
#define TIMING_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "rootstream_store.h"

static inline int64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static inline int compare_times(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

/* In microseconds, of times in ns that are sorted. */
static inline double percentile(const uint32_t *times, size_t count, double part)
{
    const size_t index = (size_t)((double)count * part);

    return count == 0 ? 0 : times[index < count ? index : count - 1] / 1e3;
}

static inline void must(int code, const char *what)
{
    if (code >= 0)
        return;
    fprintf(stderr, "%s: %s: %s\n", what, rss_code_name(code), rss_last_error()->message);
    exit(1);
}

#endif
