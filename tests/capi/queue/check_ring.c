/* The ring by itself: so many producers and consumers, records of all sizes, every byte and every count compared.
 *
 *     check_ring PRODUCERS CONSUMERS RECORDS DROP
 *
 * DROP 1: a producer that finds the ring full throws the oldest record away, so that consumers see gaps, and no more. */
#define _GNU_SOURCE 1 /* rand_r */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ring.h"

#define MOST 16
#define LARGEST 1500

typedef struct {
    uint32_t producer;
    uint32_t size; /* of all of it */
    uint64_t number;
} head;

static rssq_ring *ring;
static int producers, consumers, drops;
static uint64_t records;
static _Atomic uint64_t taken, dropped, full;
static _Atomic int producing;
static _Atomic uint64_t seen[MOST]; /* by producer, of several consumers together */

static void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static unsigned char byte_of(const head *of, size_t at)
{
    return (unsigned char)(of->number * 31 + of->producer * 7 + at);
}

static void *produce(void *argument)
{
    unsigned char body[LARGEST];
    head first;
    uint64_t end, before = 0;
    unsigned seed;

    first.producer = (uint32_t)(uintptr_t)argument;
    seed = first.producer + 1;
    for (first.number = 1; first.number <= records; first.number++) {
        rssq_part parts[3];
        size_t size = (size_t)(rand_r(&seed) % (rand_r(&seed) % 8 == 0 ? LARGEST : 200)), i;
        int result;

        first.size = (uint32_t)(sizeof first + size);
        for (i = 0; i < size; i++)
            body[i] = byte_of(&first, i);
        parts[0].data = &first;
        parts[0].size = sizeof first;
        parts[1].data = body;
        parts[1].size = size / 2;
        parts[2].data = body + size / 2;
        parts[2].size = size - size / 2;
        while ((result = rssq_ring_put(ring, parts, 3, &end)) != RSSQ_DONE) {
            if (result != RSSQ_FULL)
                die("too large?");
            atomic_fetch_add(&full, 1);
            if (drops)
                atomic_fetch_add(&dropped, (uint64_t)rssq_ring_drop(ring));
            else
                sched_yield();
        }
        if (end <= before)
            die("positions run backwards");
        before = end;
    }
    return NULL;
}

static void *consume(void *argument)
{
    static __thread unsigned char record[2 * LARGEST];
    uint64_t last[MOST] = {0}, before = 0, end;

    (void)argument;
    for (;;) {
        const int is_over = atomic_load(&producing) == 0;
        const int64_t size = rssq_ring_take(ring, record, sizeof record, &end);
        head first;
        int64_t i;

        if (size < 0)
            die("a record is larger than any");
        if (size == 0) {
            if (is_over)
                return NULL;
            sched_yield();
            continue;
        }
        memcpy(&first, record, sizeof first);
        if ((uint64_t)size != first.size || first.producer >= (uint32_t)producers)
            die("another size than was put in");
        for (i = 0; i < size - (int64_t)sizeof first; i++)
            if (record[sizeof first + i] != byte_of(&first, (size_t)i))
                die("other bytes than were put in");
        if (first.number <= last[first.producer] || end <= before)
            die("out of order");
        if (!drops && consumers == 1 && first.number != last[first.producer] + 1)
            die("one is missing");
        last[first.producer] = first.number;
        before = end;
        atomic_fetch_add(&seen[first.producer], 1);
        atomic_fetch_add(&taken, 1);
    }
}

int main(int argc, char **argv)
{
    pthread_t threads[2 * MOST];
    rssq_part part;
    unsigned char rest[64];
    uint64_t end;
    int i;

    if (argc != 5)
        return 2;
    producers = atoi(argv[1]);
    consumers = atoi(argv[2]);
    records = (uint64_t)atoi(argv[3]);
    drops = atoi(argv[4]);
    ring = rssq_ring_new(16384, 128); /* small, so that it is full and goes round often */
    if (ring == NULL || rssq_ring_largest(ring) != 4096)
        die("the ring");
    part.data = rest;
    part.size = 4097;
    if (rssq_ring_put(ring, &part, 1, &end) != RSSQ_TOO_LARGE)
        die("larger than the largest");
    part.size = 0;
    if (rssq_ring_put(ring, &part, 1, &end) != RSSQ_TOO_LARGE)
        die("a record of nothing");
    if (rssq_ring_take(ring, rest, sizeof rest, &end) != 0 || rssq_ring_drop(ring) != 0 || rssq_ring_ready(ring))
        die("empty");
    atomic_store(&producing, producers);
    for (i = 0; i < producers; i++)
        pthread_create(&threads[i], NULL, produce, (void *)(uintptr_t)i);
    for (i = 0; i < consumers; i++)
        pthread_create(&threads[MOST + i], NULL, consume, NULL);
    for (i = 0; i < producers; i++) {
        pthread_join(threads[i], NULL);
        atomic_fetch_sub(&producing, 1);
    }
    for (i = 0; i < consumers; i++)
        pthread_join(threads[MOST + i], NULL);
    if (atomic_load(&taken) + atomic_load(&dropped) != records * (uint64_t)producers)
        die("a record is lost or doubled");
    if (rssq_ring_count(ring) != records * (uint64_t)producers || rssq_ring_head(ring) != rssq_ring_tail(ring))
        die("the counts");
    for (i = 0; i < producers && !drops; i++)
        if (atomic_load(&seen[i]) != records)
            die("of one producer too few");
    printf("%llu taken, %llu dropped, %llu times full\n", (unsigned long long)taken, (unsigned long long)dropped,
           (unsigned long long)full);
    rssq_ring_free(ring);
    return 0;
}
