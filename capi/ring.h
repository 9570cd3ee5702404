/* A bounded queue of byte records between any number of producers and consumers. Internal to the library.
 *
 * After D. Vyukov's bounded MPMC queue, with records of one or more neighbouring cells: a producer claims the cells by moving
 * `head`, copies the record in, and publishes it in the first cell's state; a consumer claims them by moving `tail`, copies
 * the record out, and frees each cell for the next lap. Nothing is allocated after rssq_ring_new, nobody waits for anybody:
 * a producer that is stopped between claim and publication holds up consumers at its record, and nobody else.
 *
 * Positions count cells since the beginning: 64 bits, they never come round.
 */
#ifndef ROOTSTREAM_RING_H
#define ROOTSTREAM_RING_H

#include <stddef.h>
#include <stdint.h>

typedef struct rssq_ring rssq_ring;

/* A piece of a record, so that a record need not be put together before it is copied in. */
typedef struct {
    const void *data;
    size_t size;
} rssq_part;

enum {
    RSSQ_DONE = 0,
    RSSQ_FULL = 1,     /* no room now */
    RSSQ_TOO_LARGE = 2, /* never room */
    RSSQ_CLOSED = 3
};

/* A ring of `bytes` of room, rounded up to a power of two of cells of cell_size bytes (a power of two). NULL: out of memory.
 * The memory is touched, so that no producer takes a page fault. */
rssq_ring *rssq_ring_new(size_t bytes, size_t cell_size);
void rssq_ring_free(rssq_ring *ring);

/* The largest record: a quarter of the room. */
size_t rssq_ring_largest(const rssq_ring *ring);

/* From now on rssq_ring_put gives RSSQ_CLOSED, and rssq_ring_head stays where it is: what was claimed before is published
 * yet. */
void rssq_ring_close(rssq_ring *ring);

/* Copies a record in: RSSQ_DONE, RSSQ_FULL, RSSQ_TOO_LARGE or RSSQ_CLOSED. Any thread. *end: the position after it. */
int rssq_ring_put(rssq_ring *ring, const rssq_part *parts, int count, uint64_t *end);

/* Copies the oldest record out: its size, or 0 when there is none (or it is not published yet), or minus its size when that
 * is more than `room`; it then stays. Any thread. *end: the position after it. */
int64_t rssq_ring_take(rssq_ring *ring, void *into, size_t room, uint64_t *end);

/* Throws the oldest record away: 1, or 0 when there is none that is published. Any thread. */
int rssq_ring_drop(rssq_ring *ring);

/* Whether the oldest record can be taken now. */
int rssq_ring_ready(const rssq_ring *ring);

/* Where the next record goes, where the oldest one is; between them the cells in use. */
uint64_t rssq_ring_head(const rssq_ring *ring);
uint64_t rssq_ring_tail(const rssq_ring *ring);
uint64_t rssq_ring_cells(const rssq_ring *ring);

/* Records put in since the beginning. */
uint64_t rssq_ring_count(const rssq_ring *ring);

#endif
