/* The part of the queue that its writer calls. */
#include "queue_parts.h"

#include <string.h>

#define WARM_US 100000

static int state_of(rssq_queue *queue)
{
    return (rssq_ring_ready(queue->events.ring) ? RSSQ_EVENTS : 0) | (rssq_ring_ready(queue->stats.ring) ? RSSQ_STATS : 0) |
           (atomic_load(&queue->flushing) ? RSSQ_FLUSHING : 0) | (atomic_load(&queue->stopping) ? RSSQ_STOPPING : 0);
}

static int is_filling(const rssq_lane *of)
{
    return rssq_ring_head(of->ring) - rssq_ring_tail(of->ring) > rssq_ring_cells(of->ring) / 2;
}

static int has_work(rssq_queue *queue, int wanted)
{
    const int state = state_of(queue);
    const int is_full = is_filling(&queue->events) || is_filling(&queue->stats);

    return (state & (wanted | RSSQ_FLUSHING | RSSQ_STOPPING)) != 0 || is_full;
}

/* Sleeps where only who has a reason disturbs it: no producer pays for a wake-up. */
static void nap(rssq_queue *queue, int64_t nap_us)
{
    const uint32_t seen = rssq_park_enter(&queue->hurry);

    if (has_work(queue, 0))
        rssq_park_leave(&queue->hurry);
    else
        rssq_park_sleep(&queue->hurry, seen, nap_us);
}

int rssq_queue_wait(rssq_queue *queue, int wanted, int64_t timeout_us, int64_t nap_us)
{
    const int64_t until = rssq_now_us() + timeout_us;
    int64_t now = until - timeout_us;
    int has_napped = 0;

    /* For a while after there was something it looks by itself: who comes often never pays for a wake-up. */
    while (nap_us > 0 && now < queue->warm_until && !has_work(queue, wanted) && (timeout_us < 0 || now < until)) {
        nap(queue, nap_us);
        has_napped = 1;
        now = rssq_now_us();
    }
    if (!has_work(queue, wanted) && (timeout_us < 0 || now < until)) {
        const uint32_t seen = rssq_park_enter(&queue->work);

        has_napped = 0;
        atomic_store(&queue->events.is_awaited, (wanted & RSSQ_EVENTS) != 0);
        atomic_store(&queue->stats.is_awaited, (wanted & RSSQ_STATS) != 0);
        if (has_work(queue, wanted))
            rssq_park_leave(&queue->work);
        else
            rssq_park_sleep(&queue->work, seen, timeout_us < 0 ? -1 : until - now);
        atomic_store(&queue->events.is_awaited, 0);
        atomic_store(&queue->stats.is_awaited, 0);
    }
    if ((state_of(queue) & (RSSQ_EVENTS | RSSQ_STATS)) != 0) {
        queue->warm_until = rssq_now_us() + WARM_US;
        if (nap_us > 0 && !has_napped && (state_of(queue) & RSSQ_EVENTS) != 0)
            nap(queue, nap_us);
    }
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
    rssq_park_wake(&queue->finished);
    rssq_queue_let_go(queue);
}

int rssq_queue_wait_gone(rssq_queue *queue, int64_t timeout_us)
{
    const int64_t until = rssq_now_us() + timeout_us;
    void *held = rssq_enter_wait();

    for (;;) {
        const uint32_t seen = rssq_park_enter(&queue->gone);
        const int64_t left = timeout_us < 0 ? -1 : until - rssq_now_us();

        if (atomic_load(&queue->is_gone) || (timeout_us >= 0 && left <= 0)) {
            rssq_park_leave(&queue->gone);
            rssq_leave_wait(held);
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

static void move_done(rssq_queue *queue, rssq_lane *of, uint64_t end)
{
    if ((int64_t)(end - atomic_load_explicit(&of->done, memory_order_relaxed)) > 0)
        atomic_store(&of->done, end);
    rssq_park_wake(&queue->finished);
}

static void lane_done(rssq_queue *queue, rssq_lane *of, uint64_t end, uint64_t stored, uint64_t rejected)
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
        queue->is_cut = size >= sizeof queue->error;
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
