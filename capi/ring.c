#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* posix_memalign */
#endif
#include "ring.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define CLOSED ((uint64_t)1 << 63) /* in head: a claim under way at the time of closing fails, or came before it */
#define LINE 64 /* bytes of a cache line: what one side writes must not share one with what the other does */

/* Of the cell at position p, where n is the number of cells:
 *   turn == p       free, or claimed by a producer
 *   turn == p + 1   the first cell of a published record of `size` bytes
 *   turn == p + n   free for the next lap
 * The turns of neighbouring laps are at least n apart, so n must be above 1. */
typedef struct {
    _Atomic uint64_t turn;
    _Atomic uint64_t size;
} cell_state;

struct rssq_ring {
    /* Never changes. */
    uint64_t cells;
    unsigned shift; /* log2 of the bytes of a cell */
    size_t largest;
    cell_state *states;
    unsigned char *bytes;
    char gap_1[LINE];
    /* Producers. */
    _Atomic uint64_t head;
    _Atomic uint64_t count;
    char gap_2[LINE];
    /* Consumers. */
    _Atomic uint64_t tail;
    char gap_3[LINE];
};

rssq_ring *rssq_ring_new(size_t bytes, size_t cell_size)
{
    rssq_ring *ring;
    void *memory = NULL;
    uint64_t cells = 8, i;
    unsigned shift = 0;

    while (((size_t)1 << shift) < cell_size)
        shift++;
    while (cells << shift < bytes)
        cells *= 2;
    ring = calloc(1, sizeof *ring);
    if (ring == NULL)
        return NULL;
    ring->cells = cells;
    ring->shift = shift;
    ring->largest = (size_t)(cells << shift) / 4;
    ring->states = malloc(cells * sizeof *ring->states);
    if (ring->states == NULL || posix_memalign(&memory, LINE, (size_t)(cells << shift)) != 0) {
        free(ring->states);
        free(ring);
        return NULL;
    }
    ring->bytes = memory;
    memset(ring->bytes, 0, (size_t)(cells << shift));
    for (i = 0; i < cells; i++) {
        atomic_init(&ring->states[i].turn, i);
        atomic_init(&ring->states[i].size, 0);
    }
    atomic_init(&ring->head, 0);
    atomic_init(&ring->count, 0);
    atomic_init(&ring->tail, 0);
    return ring;
}

void rssq_ring_free(rssq_ring *ring)
{
    if (ring == NULL)
        return;
    free(ring->states);
    free(ring->bytes);
    free(ring);
}

void rssq_ring_close(rssq_ring *ring)
{
    atomic_fetch_or(&ring->head, CLOSED);
}

size_t rssq_ring_largest(const rssq_ring *ring)
{
    return ring->largest;
}

static cell_state *state_at(const rssq_ring *ring, uint64_t position)
{
    return &ring->states[position & (ring->cells - 1)];
}

static uint64_t cells_of(const rssq_ring *ring, uint64_t size)
{
    return (size + ((uint64_t)1 << ring->shift) - 1) >> ring->shift;
}

/* Copies to the offset-th byte after `position`, round the end of the memory where it must. */
static void copy_in(const rssq_ring *ring, uint64_t position, size_t offset, const void *data, size_t size)
{
    const size_t room = (size_t)(ring->cells << ring->shift);
    const size_t start = ((size_t)((position & (ring->cells - 1)) << ring->shift) + offset) & (room - 1);
    const size_t first = size <= room - start ? size : room - start;

    memcpy(ring->bytes + start, data, first);
    if (first < size)
        memcpy(ring->bytes, (const unsigned char *)data + first, size - first);
}

static void copy_out(const rssq_ring *ring, uint64_t position, void *into, size_t size)
{
    const size_t room = (size_t)(ring->cells << ring->shift);
    const size_t start = (size_t)((position & (ring->cells - 1)) << ring->shift);
    const size_t first = size <= room - start ? size : room - start;

    memcpy(into, ring->bytes + start, first);
    if (first < size)
        memcpy((unsigned char *)into + first, ring->bytes, size - first);
}

/* Moves head over `needed` free cells, and says where they begin. */
static int claim(rssq_ring *ring, uint64_t needed, uint64_t *position)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);

    for (;;) {
        uint64_t i;
        int64_t ahead = 0;

        if (head & CLOSED)
            return RSSQ_CLOSED;
        for (i = 0; i < needed && ahead == 0; i++) {
            const uint64_t turn = atomic_load_explicit(&state_at(ring, head + i)->turn, memory_order_acquire);
            ahead = (int64_t)(turn - (head + i));
        }
        if (ahead < 0) /* still in use since the lap before */
            return RSSQ_FULL;
        if (ahead > 0) /* another producer was here */
            head = atomic_load_explicit(&ring->head, memory_order_relaxed);
        else if (atomic_compare_exchange_weak_explicit(
                     &ring->head, &head, head + needed, memory_order_relaxed, memory_order_relaxed)) {
            *position = head;
            return RSSQ_DONE;
        }
    }
}

int rssq_ring_put(rssq_ring *ring, const rssq_part *parts, int count, uint64_t *end)
{
    size_t size = 0, offset = 0;
    uint64_t position;
    int i, result;

    for (i = 0; i < count; i++) {
        if (parts[i].size > ring->largest)
            return RSSQ_TOO_LARGE;
        size += parts[i].size;
    }
    if (size == 0 || size > ring->largest)
        return RSSQ_TOO_LARGE;
    result = claim(ring, cells_of(ring, size), &position);
    if (result != RSSQ_DONE)
        return result;
    atomic_fetch_add_explicit(&ring->count, 1, memory_order_relaxed);
    for (i = 0; i < count; i++) {
        if (parts[i].size != 0)
            copy_in(ring, position, offset, parts[i].data, parts[i].size);
        offset += parts[i].size;
    }
    atomic_store_explicit(&state_at(ring, position)->size, size, memory_order_relaxed);
    /* Sequentially consistent: whoever looks next whether a consumer sleeps does so after this. */
    atomic_store(&state_at(ring, position)->turn, position + 1);
    *end = position + cells_of(ring, size);
    return RSSQ_DONE;
}

/* Moves tail over the oldest record: its size, and where it begins. 0: there is none. `most`: a larger one stays, and minus
 * its size is returned. */
static int64_t claim_oldest(rssq_ring *ring, size_t most, uint64_t *position)
{
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

    for (;;) {
        const cell_state *state = state_at(ring, tail);
        const uint64_t turn = atomic_load(&state->turn);
        const int64_t ahead = (int64_t)(turn - (tail + 1));

        if (ahead < 0)
            return 0;
        if (ahead == 0) {
            /* May be of another record, if somebody else took this one: then tail has moved, and that is noticed. */
            const uint64_t size = atomic_load_explicit(&state->size, memory_order_relaxed);
            if (size > most) {
                const uint64_t again = atomic_load(&ring->tail);
                if (again == tail)
                    return -(int64_t)size;
                tail = again;
            } else if (atomic_compare_exchange_weak_explicit(
                           &ring->tail, &tail, tail + cells_of(ring, size), memory_order_acq_rel, memory_order_relaxed)) {
                *position = tail;
                return (int64_t)size;
            }
        } else
            tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    }
}

static void release(rssq_ring *ring, uint64_t position, uint64_t count)
{
    uint64_t i;

    for (i = 0; i < count; i++)
        atomic_store_explicit(&state_at(ring, position + i)->turn, position + i + ring->cells, memory_order_release);
}

int64_t rssq_ring_take(rssq_ring *ring, void *into, size_t room, uint64_t *end)
{
    uint64_t position;
    const int64_t size = claim_oldest(ring, room, &position);

    if (size <= 0)
        return size;
    copy_out(ring, position, into, (size_t)size);
    *end = position + cells_of(ring, (uint64_t)size);
    release(ring, position, *end - position);
    return size;
}

int rssq_ring_drop(rssq_ring *ring)
{
    uint64_t position;
    const int64_t size = claim_oldest(ring, ring->largest, &position);

    if (size <= 0)
        return 0;
    release(ring, position, cells_of(ring, (uint64_t)size));
    return 1;
}

int rssq_ring_ready(const rssq_ring *ring)
{
    const uint64_t tail = atomic_load(&ring->tail);

    return atomic_load(&state_at(ring, tail)->turn) == tail + 1;
}

uint64_t rssq_ring_head(const rssq_ring *ring)
{
    return atomic_load(&ring->head) & ~CLOSED;
}

uint64_t rssq_ring_tail(const rssq_ring *ring)
{
    return atomic_load(&ring->tail);
}

uint64_t rssq_ring_cells(const rssq_ring *ring)
{
    return ring->cells;
}

uint64_t rssq_ring_count(const rssq_ring *ring)
{
    return atomic_load_explicit(&ring->count, memory_order_relaxed);
}
