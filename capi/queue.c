#include "queue_parts.h"

#include <stdlib.h>
#include <string.h>

#define EIGHTHS 8 /* a producer looks how full the ring is only when it crosses one of so many marks */

void *(*rssq_before_wait)(void) = NULL;
void (*rssq_after_wait)(void *held) = NULL;

void *rssq_enter_wait(void)
{
    return rssq_before_wait == NULL ? NULL : rssq_before_wait();
}

void rssq_leave_wait(void *held)
{
    if (rssq_after_wait != NULL)
        rssq_after_wait(held);
}

static int lane_init(rssq_lane *of, size_t bytes, size_t cell)
{
    memset(of, 0, sizeof *of);
    rssq_park_init(&of->room);
    of->ring = rssq_ring_new(bytes, cell);
    return of->ring != NULL;
}

static void lane_destroy(rssq_lane *of)
{
    rssq_ring_free(of->ring);
    rssq_park_destroy(&of->room);
}

rssq_queue *rssq_queue_new(size_t event_bytes, size_t stats_bytes, int policy, int64_t block_us)
{
    rssq_queue *queue = calloc(1, sizeof *queue);

    if (queue == NULL)
        return NULL;
    queue->policy = policy;
    queue->block_us = block_us;
    atomic_init(&queue->holders, 1);
    rssq_park_init(&queue->work);
    rssq_park_init(&queue->hurry);
    rssq_park_init(&queue->finished);
    rssq_park_init(&queue->gone);
    pthread_mutex_init(&queue->error_lock, NULL);
    if (!lane_init(&queue->events, event_bytes, EVENT_CELL) | !lane_init(&queue->stats, stats_bytes, STATS_CELL)) {
        rssq_queue_let_go(queue);
        return NULL;
    }
    return queue;
}

void rssq_queue_hold(rssq_queue *queue)
{
    atomic_fetch_add(&queue->holders, 1);
}

void rssq_queue_let_go(rssq_queue *queue)
{
    if (queue == NULL || atomic_fetch_sub(&queue->holders, 1) != 1)
        return;
    lane_destroy(&queue->events);
    lane_destroy(&queue->stats);
    rssq_park_destroy(&queue->work);
    rssq_park_destroy(&queue->hurry);
    rssq_park_destroy(&queue->finished);
    rssq_park_destroy(&queue->gone);
    pthread_mutex_destroy(&queue->error_lock);
    free(queue);
}

void rssq_queue_close(rssq_queue *queue)
{
    rssq_ring_close(queue->events.ring);
    rssq_ring_close(queue->stats.ring);
    rssq_park_wake(&queue->events.room);
    rssq_park_wake(&queue->stats.room);
}

size_t rssq_queue_largest(const rssq_queue *queue)
{
    return rssq_ring_largest(queue->events.ring);
}

/* ---- producers */

static void announce(rssq_queue *queue, const rssq_lane *to, uint64_t end)
{
    const uint64_t cells = rssq_ring_cells(to->ring);
    const uint64_t mark = end & ~(cells / EIGHTHS - 1);

    if (atomic_load(&to->is_awaited))
        rssq_park_wake(&queue->work);
    if (end - mark < 16 && end - rssq_ring_tail(to->ring) > cells / 2) {
        /* Filling up while the writer naps, or waits for something else. */
        rssq_park_wake(&queue->work);
        rssq_park_wake(&queue->hurry);
    }
}

/* The policies to wait and to drop, once the ring was found full. */
static int put_into_full(rssq_queue *queue, rssq_lane *to, const rssq_part *parts, int count, uint64_t *end)
{
    const int64_t until = rssq_now_us() + queue->block_us;
    int64_t left = queue->block_us;
    uint64_t most = rssq_ring_cells(to->ring);
    int result = RSSQ_FULL, tries = 0;
    void *held;

    if (queue->policy == RSSQ_POLICY_DROP_OLDEST) {
        /* The oldest may just be written or read by another thread: not waited for longer than it takes to look. A large
         * one may need the room of many small ones, but never of more than there are. */
        while (tries < 1000 && most > 0 && result == RSSQ_FULL) {
            if (rssq_ring_drop(to->ring)) {
                atomic_fetch_add_explicit(&to->dropped, 1, memory_order_relaxed);
                most--;
            } else
                tries++;
            result = rssq_ring_put(to->ring, parts, count, end);
        }
        return result;
    }
    if (queue->policy != RSSQ_POLICY_BLOCK)
        return RSSQ_FULL;
    held = rssq_enter_wait();
    while (result == RSSQ_FULL) {
        const uint32_t seen = rssq_park_enter(&to->room);

        rssq_park_wake(&queue->work);
        rssq_park_wake(&queue->hurry);
        result = rssq_ring_put(to->ring, parts, count, end);
        if (result == RSSQ_FULL && queue->block_us >= 0) {
            left = until - rssq_now_us();
            if (left <= 0)
                result = RSSQ_TIMEOUT;
        }
        if (result == RSSQ_FULL)
            rssq_park_sleep(&to->room, seen, left);
        else
            rssq_park_leave(&to->room);
    }
    rssq_leave_wait(held);
    return result;
}

static int put(rssq_queue *queue, rssq_lane *to, const rssq_part *parts, int count)
{
    uint64_t end;
    int result;

    result = rssq_ring_put(to->ring, parts, count, &end);
    if (result == RSSQ_FULL)
        result = put_into_full(queue, to, parts, count, &end);
    if (result == RSSQ_DONE)
        announce(queue, to, end);
    else if (result == RSSQ_FULL || result == RSSQ_TIMEOUT)
        atomic_fetch_add_explicit(&to->refused, 1, memory_order_relaxed);
    return result;
}

int rssq_queue_put_event(rssq_queue *queue, const rssq_part *parts, int count)
{
    return put(queue, &queue->events, parts, count);
}

int rssq_queue_put_stats(rssq_queue *queue, const rssq_stats *stats)
{
    rssq_part part;

    part.data = stats;
    part.size = sizeof *stats;
    return put(queue, &queue->stats, &part, 1);
}

static int reached(const rssq_lane *of, uint64_t target)
{
    return (int64_t)(atomic_load(&of->done) - target) >= 0;
}

int rssq_queue_flush(rssq_queue *queue, int64_t timeout_us)
{
    const uint64_t events = rssq_ring_head(queue->events.ring);
    const uint64_t stats = rssq_ring_head(queue->stats.ring);
    const int64_t until = rssq_now_us() + timeout_us;
    int result = RSSQ_DONE;
    void *held;

    if (reached(&queue->events, events) && reached(&queue->stats, stats))
        return RSSQ_DONE;
    held = rssq_enter_wait();
    atomic_fetch_add(&queue->flushing, 1);
    rssq_park_wake(&queue->work);
    rssq_park_wake(&queue->hurry);
    for (;;) {
        const uint32_t seen = rssq_park_enter(&queue->finished);
        const int64_t left = timeout_us < 0 ? -1 : until - rssq_now_us();

        if (reached(&queue->events, events) && reached(&queue->stats, stats))
            break;
        if (atomic_load(&queue->is_gone) || (timeout_us >= 0 && left <= 0)) {
            result = atomic_load(&queue->is_gone) ? RSSQ_CLOSED : RSSQ_TIMEOUT;
            break;
        }
        rssq_park_sleep(&queue->finished, seen, left);
    }
    rssq_park_leave(&queue->finished);
    atomic_fetch_sub(&queue->flushing, 1);
    rssq_leave_wait(held);
    return result;
}

static uint64_t read_count(const _Atomic uint64_t *count)
{
    return atomic_load_explicit(count, memory_order_relaxed);
}

static uint64_t less(uint64_t all, uint64_t part)
{
    return all > part ? all - part : 0; /* they are read one after the other, and never stand still */
}

void rssq_queue_count(rssq_queue *queue, rssq_counts *counts)
{
    const rssq_lane *of = &queue->events;
    uint64_t tail;

    counts->events_stored = read_count(&of->stored);
    counts->events_rejected = read_count(&of->rejected);
    counts->events_dropped = read_count(&of->dropped);
    counts->events_refused = read_count(&of->refused);
    counts->events_accepted = rssq_ring_count(of->ring);
    counts->events_waiting =
        less(counts->events_accepted, counts->events_stored + counts->events_rejected + counts->events_dropped);
    tail = rssq_ring_tail(of->ring);
    counts->events_used = (rssq_ring_head(of->ring) - tail) * EVENT_CELL;
    counts->events_room = rssq_ring_cells(of->ring) * EVENT_CELL;
    of = &queue->stats;
    counts->stats_stored = read_count(&of->stored);
    counts->stats_rejected = read_count(&of->rejected);
    counts->stats_dropped = read_count(&of->dropped);
    counts->stats_refused = read_count(&of->refused);
    counts->stats_accepted = rssq_ring_count(of->ring);
    counts->stats_waiting =
        less(counts->stats_accepted, counts->stats_stored + counts->stats_rejected + counts->stats_dropped);
    counts->batches = read_count(&queue->batches);
    counts->reconnects = read_count(&queue->reconnects);
    pthread_mutex_lock(&queue->error_lock);
    counts->is_failing = queue->is_failing;
    counts->is_cut = queue->is_cut;
    memcpy(counts->error, queue->error, sizeof counts->error);
    pthread_mutex_unlock(&queue->error_lock);
}
