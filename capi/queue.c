#include "queue.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "park.h"

#define EVENT_CELL 128
#define STATS_CELL 64 /* one report */
#define LINE 64
#define EIGHTHS 8 /* a producer looks how full the ring is only when it crosses one of so many marks */

typedef struct {
    rssq_ring *ring;
    rssq_park room; /* where producers wait for room */
    _Atomic uint64_t dropped;
    _Atomic uint64_t refused;
    /* The writer's. */
    _Atomic int is_awaited; /* it sleeps until something is put in */
    _Atomic uint64_t done; /* all before this position have come to their end */
    _Atomic uint64_t stored;
    _Atomic uint64_t rejected;
} lane;

struct rssq_queue {
    int policy;
    int64_t block_us;
    _Atomic int holders;
    _Atomic int closed;
    _Atomic int stopping;
    _Atomic int flushing; /* how many wait in rssq_queue_flush */
    char gap_1[LINE];
    rssq_park work; /* where the writer sleeps when there is nothing */
    char gap_2[LINE];
    rssq_park hurry; /* where it naps and pauses, and is disturbed only by who has a reason */
    rssq_park finished; /* where flushers wait */
    char gap_3[LINE];
    lane events;
    char gap_4[LINE];
    lane stats;
    _Atomic uint64_t batches;
    _Atomic uint64_t reconnects;
    _Atomic int is_gone; /* the writer */
    rssq_park gone;
    pthread_mutex_t error_lock;
    int is_failing;
    char error[256];
};

static int lane_init(lane *of, size_t bytes, size_t cell)
{
    memset(of, 0, sizeof *of);
    rssq_park_init(&of->room);
    of->ring = rssq_ring_new(bytes, cell);
    return of->ring != NULL;
}

static void lane_destroy(lane *of)
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
    atomic_store(&queue->closed, 1);
    rssq_park_wake(&queue->events.room);
    rssq_park_wake(&queue->stats.room);
}

size_t rssq_queue_largest(const rssq_queue *queue)
{
    return rssq_ring_largest(queue->events.ring);
}

/* ---- producers */

static void announce(rssq_queue *queue, const lane *to, uint64_t end)
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
static int put_into_full(rssq_queue *queue, lane *to, const rssq_part *parts, int count, uint64_t *end)
{
    const int64_t until = rssq_now_us() + queue->block_us;
    int64_t left = queue->block_us;
    int result = RSSQ_FULL, tries;

    if (queue->policy == RSSQ_POLICY_DROP_OLDEST) {
        /* The oldest may just be written or read by another thread: not waited for longer than it takes to look. */
        for (tries = 0; tries < 1000 && result == RSSQ_FULL; tries++) {
            if (rssq_ring_drop(to->ring))
                atomic_fetch_add_explicit(&to->dropped, 1, memory_order_relaxed);
            result = rssq_ring_put(to->ring, parts, count, end);
        }
        return result;
    }
    if (queue->policy != RSSQ_POLICY_BLOCK)
        return RSSQ_FULL;
    while (result == RSSQ_FULL) {
        const uint32_t seen = rssq_park_enter(&to->room);

        rssq_park_wake(&queue->work);
        rssq_park_wake(&queue->hurry);
        if (atomic_load(&queue->closed)) {
            rssq_park_leave(&to->room);
            return RSSQ_CLOSED;
        }
        result = rssq_ring_put(to->ring, parts, count, end);
        if (result != RSSQ_FULL) {
            rssq_park_leave(&to->room);
            return result;
        }
        if (queue->block_us >= 0) {
            left = until - rssq_now_us();
            if (left <= 0) {
                rssq_park_leave(&to->room);
                return RSSQ_TIMEOUT;
            }
        }
        rssq_park_sleep(&to->room, seen, left);
    }
    return result;
}

static int put(rssq_queue *queue, lane *to, const rssq_part *parts, int count)
{
    uint64_t end;
    int result;

    if (atomic_load_explicit(&queue->closed, memory_order_acquire))
        return RSSQ_CLOSED;
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

static int reached(const lane *of, uint64_t target)
{
    return (int64_t)(atomic_load(&of->done) - target) >= 0;
}

int rssq_queue_flush(rssq_queue *queue, int64_t timeout_us)
{
    const uint64_t events = rssq_ring_head(queue->events.ring);
    const uint64_t stats = rssq_ring_head(queue->stats.ring);
    const int64_t until = rssq_now_us() + timeout_us;
    int result = RSSQ_DONE;

    if (reached(&queue->events, events) && reached(&queue->stats, stats))
        return RSSQ_DONE;
    atomic_fetch_add(&queue->flushing, 1);
    rssq_park_wake(&queue->work);
    rssq_park_wake(&queue->hurry);
    for (;;) {
        const uint32_t seen = rssq_park_enter(&queue->finished);
        const int64_t left = timeout_us < 0 ? -1 : until - rssq_now_us();

        if (reached(&queue->events, events) && reached(&queue->stats, stats))
            break;
        if (timeout_us >= 0 && left <= 0) {
            result = RSSQ_TIMEOUT;
            break;
        }
        rssq_park_sleep(&queue->finished, seen, left);
    }
    rssq_park_leave(&queue->finished);
    atomic_fetch_sub(&queue->flushing, 1);
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
    const lane *of = &queue->events;
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
    memcpy(counts->error, queue->error, sizeof counts->error);
    pthread_mutex_unlock(&queue->error_lock);
}

/* ---- the writer */

static int state_of(rssq_queue *queue)
{
    return (rssq_ring_ready(queue->events.ring) ? RSSQ_EVENTS : 0) | (rssq_ring_ready(queue->stats.ring) ? RSSQ_STATS : 0) |
           (atomic_load(&queue->flushing) ? RSSQ_FLUSHING : 0) | (atomic_load(&queue->stopping) ? RSSQ_STOPPING : 0);
}

static int is_filling(const lane *of)
{
    return rssq_ring_head(of->ring) - rssq_ring_tail(of->ring) > rssq_ring_cells(of->ring) / 2;
}

static int has_work(rssq_queue *queue, int wanted)
{
    const int state = state_of(queue);
    const int is_full = is_filling(&queue->events) || is_filling(&queue->stats);

    return (state & (wanted | RSSQ_FLUSHING | RSSQ_STOPPING)) != 0 || is_full;
}

int rssq_queue_wait(rssq_queue *queue, int wanted, int64_t timeout_us, int64_t nap_us)
{
    uint32_t seen;

    if (!has_work(queue, wanted)) {
        seen = rssq_park_enter(&queue->work);
        atomic_store(&queue->events.is_awaited, (wanted & RSSQ_EVENTS) != 0);
        atomic_store(&queue->stats.is_awaited, (wanted & RSSQ_STATS) != 0);
        if (has_work(queue, wanted))
            rssq_park_leave(&queue->work);
        else
            rssq_park_sleep(&queue->work, seen, timeout_us);
        atomic_store(&queue->events.is_awaited, 0);
        atomic_store(&queue->stats.is_awaited, 0);
    }
    if (nap_us <= 0 || (state_of(queue) & RSSQ_EVENTS) == 0)
        return state_of(queue);
    seen = rssq_park_enter(&queue->hurry);
    if (has_work(queue, 0))
        rssq_park_leave(&queue->hurry);
    else
        rssq_park_sleep(&queue->hurry, seen, nap_us);
    return state_of(queue);
}

int rssq_queue_pause(rssq_queue *queue, int64_t timeout_us)
{
    const int64_t until = rssq_now_us() + timeout_us;

    for (;;) {
        const uint32_t seen = rssq_park_enter(&queue->hurry);
        const int64_t left = until - rssq_now_us();

        if (left <= 0 || atomic_load(&queue->stopping)) {
            rssq_park_leave(&queue->hurry);
            return atomic_load(&queue->stopping);
        }
        rssq_park_sleep(&queue->hurry, seen, left);
    }
}

int rssq_queue_is_stopping(rssq_queue *queue)
{
    return atomic_load(&queue->stopping);
}

void rssq_queue_writer_gone(rssq_queue *queue)
{
    atomic_store(&queue->is_gone, 1);
    rssq_park_wake(&queue->gone);
    rssq_queue_let_go(queue);
}

int rssq_queue_wait_gone(rssq_queue *queue, int64_t timeout_us)
{
    const int64_t until = rssq_now_us() + timeout_us;

    for (;;) {
        const uint32_t seen = rssq_park_enter(&queue->gone);
        const int64_t left = timeout_us < 0 ? -1 : until - rssq_now_us();

        if (atomic_load(&queue->is_gone) || (timeout_us >= 0 && left <= 0)) {
            rssq_park_leave(&queue->gone);
            return atomic_load(&queue->is_gone) ? RSSQ_DONE : RSSQ_TIMEOUT;
        }
        rssq_park_sleep(&queue->gone, seen, left);
    }
}

void rssq_queue_stop(rssq_queue *queue)
{
    atomic_store(&queue->stopping, 1);
    rssq_park_wake(&queue->work);
    rssq_park_wake(&queue->hurry);
}

int64_t rssq_queue_take_event(rssq_queue *queue, void *into, size_t room, uint64_t *end)
{
    return rssq_ring_take(queue->events.ring, into, room, end);
}

int rssq_queue_take_stats(rssq_queue *queue, rssq_stats *stats, uint64_t *end)
{
    const int64_t size = rssq_ring_take(queue->stats.ring, stats, sizeof *stats, end);

    return size > 0;
}

void rssq_queue_made_room(rssq_queue *queue)
{
    rssq_park_wake(&queue->events.room);
    rssq_park_wake(&queue->stats.room);
}

static void move_done(rssq_queue *queue, lane *of, uint64_t end)
{
    if ((int64_t)(end - atomic_load_explicit(&of->done, memory_order_relaxed)) > 0)
        atomic_store(&of->done, end);
    rssq_park_wake(&queue->finished);
}

static void lane_done(rssq_queue *queue, lane *of, uint64_t end, uint64_t stored, uint64_t rejected)
{
    atomic_fetch_add_explicit(&of->stored, stored, memory_order_relaxed);
    atomic_fetch_add_explicit(&of->rejected, rejected, memory_order_relaxed);
    atomic_fetch_add_explicit(&queue->batches, 1, memory_order_relaxed);
    move_done(queue, of, end);
}

void rssq_queue_events_done(rssq_queue *queue, uint64_t end, uint64_t stored, uint64_t rejected)
{
    lane_done(queue, &queue->events, end, stored, rejected);
}

void rssq_queue_stats_done(rssq_queue *queue, uint64_t end, uint64_t stored, uint64_t rejected)
{
    lane_done(queue, &queue->stats, end, stored, rejected);
}

void rssq_queue_nothing_in_hand(rssq_queue *queue, int events, int stats)
{
    /* Those before were dropped, after the writer had taken the ones before them. */
    if (events)
        move_done(queue, &queue->events, rssq_ring_tail(queue->events.ring));
    if (stats)
        move_done(queue, &queue->stats, rssq_ring_tail(queue->stats.ring));
}

void rssq_queue_note_reconnect(rssq_queue *queue)
{
    atomic_fetch_add_explicit(&queue->reconnects, 1, memory_order_relaxed);
}

void rssq_queue_note_error(rssq_queue *queue, const char *text)
{
    size_t size;

    pthread_mutex_lock(&queue->error_lock);
    queue->is_failing = text != NULL;
    if (text != NULL) {
        size = strlen(text);
        if (size >= sizeof queue->error) {
            size = sizeof queue->error - 1;
            while (size > 0 && ((unsigned char)text[size] & 0xC0) == 0x80) /* between characters */
                size--;
        }
        memcpy(queue->error, text, size);
        queue->error[size] = '\0';
    }
    pthread_mutex_unlock(&queue->error_lock);
}
