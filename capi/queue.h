/* The queue of a store: what real-time threads hand over and one writer takes to PostgreSQL. Internal to the library.
 *
 * Two rings, one for events and one for stats, so that a flood of either leaves room for the other. A producer's call copies
 * into a ring and returns: it takes no lock, allocates nothing, makes a system call only to wake a writer that sleeps, and
 * needs no Python. One thread, the writer, calls the functions of the second part.
 */
#ifndef ROOTSTREAM_QUEUE_H
#define ROOTSTREAM_QUEUE_H

#include <stddef.h>
#include <stdint.h>

#include "ring.h"

typedef struct rssq_queue rssq_queue;

enum { RSSQ_POLICY_FAIL = 0, RSSQ_POLICY_BLOCK = 1, RSSQ_POLICY_DROP_OLDEST = 2 };

enum {
    /* besides RSSQ_DONE, RSSQ_FULL, RSSQ_TOO_LARGE, RSSQ_CLOSED of ring.h */
    RSSQ_TIMEOUT = 4
};

/* An event as it lies in the ring, followed by the bytes of the aggregate's type and id, the event's type, the data and the
 * metadata, in this order, without NULs. */
typedef struct {
    int64_t user_id; /* meaningless without has_user */
    uint32_t data_size;
    uint32_t metadata_size; /* meaningless without has_metadata */
    uint16_t type_size;
    uint16_t id_size;
    uint16_t event_type_size;
    uint8_t has_user;
    uint8_t has_metadata;
} rssq_event;

/* What an encoder reports; minus one, or a rate that is not above zero: leave what is there. */
typedef struct {
    int64_t stream_id;
    int64_t viewer_count;
    int64_t bitrate_kbps;
    double fps;
    int64_t bytes_sent;
} rssq_stats;

typedef struct {
    uint64_t events_accepted;  /* taken into the ring */
    uint64_t events_stored;    /* committed in the event log */
    uint64_t events_rejected;  /* committed in the table of dead letters */
    uint64_t events_dropped;   /* thrown away for newer ones */
    uint64_t events_refused;   /* not taken in: the ring was full */
    uint64_t events_waiting;   /* in the ring or in the writer's hands */
    uint64_t stats_accepted;
    uint64_t stats_stored;     /* reports whose figures were committed */
    uint64_t stats_rejected;   /* reports of a stream that was off air or is not there */
    uint64_t stats_dropped;
    uint64_t stats_refused;
    uint64_t stats_waiting;
    uint64_t batches;          /* transactions committed */
    uint64_t reconnects;       /* connections lost and made anew */
    uint64_t events_room;      /* bytes of the ring of events */
    uint64_t events_used;      /* of which in use */
    int32_t is_failing;        /* the last attempt to write failed */
    int32_t is_cut;            /* error is not all of the text */
    char error[256];           /* with this; stays when writing goes on */
} rssq_counts;

/* Called around each wait of a producer or the owner, where set: for what such a thread holds and the writer needs. What the
 * first one returns is given to the second. */
extern void *(*rssq_before_wait)(void);
extern void (*rssq_after_wait)(void *held);

/* Microseconds of a clock that never jumps. */
int64_t rssq_now_us(void);

/* ---- the owner's part */

/* NULL: out of memory. block_us: how long RSSQ_POLICY_BLOCK waits for room; negative: without limit. The queue has one
 * holder. */
rssq_queue *rssq_queue_new(size_t event_bytes, size_t stats_bytes, int policy, int64_t block_us);
/* Another holder, and one less: the last one frees the queue. */
void rssq_queue_hold(rssq_queue *queue);
void rssq_queue_let_go(rssq_queue *queue);
/* From now on producers get RSSQ_CLOSED, those that wait for room too. What is queued stays. */
void rssq_queue_close(rssq_queue *queue);

/* ---- producers, any thread */

/* parts: rssq_event and the five texts. RSSQ_DONE, FULL, TOO_LARGE, CLOSED, TIMEOUT (of the policy to block). */
int rssq_queue_put_event(rssq_queue *queue, const rssq_part *parts, int count);
int rssq_queue_put_stats(rssq_queue *queue, const rssq_stats *stats);
/* Waits until all that was put in before the call is committed, rejected or dropped. RSSQ_DONE or RSSQ_TIMEOUT; RSSQ_CLOSED:
 * the writer is gone, and some of it is not. */
int rssq_queue_flush(rssq_queue *queue, int64_t timeout_us);
void rssq_queue_count(rssq_queue *queue, rssq_counts *counts);
size_t rssq_queue_largest(const rssq_queue *queue);
/* Tells the writer to stop, whatever is left. */
void rssq_queue_stop(rssq_queue *queue);
/* Waits until the writer has said rssq_queue_writer_gone. RSSQ_DONE or RSSQ_TIMEOUT. */
int rssq_queue_wait_gone(rssq_queue *queue, int64_t timeout_us);

/* ---- the writer, one thread */

enum { RSSQ_EVENTS = 1, RSSQ_STATS = 2, RSSQ_FLUSHING = 4, RSSQ_STOPPING = 8 };

/* Sleeps until there is something to do, at most timeout_us (negative: no limit). `wanted`: RSSQ_EVENTS, RSSQ_STATS or both;
 * what is not wanted wakes nobody, until its ring is half full. With events there it naps for nap_us, so that more come
 * together, unless somebody flushes or a ring fills up; for a tenth of a second after that it looks every nap_us, and
 * only then has itself woken. Any of the bits above. */
int rssq_queue_wait(rssq_queue *queue, int wanted, int64_t timeout_us, int64_t nap_us);
/* Sleeps for so long, unless the writer is told to stop: for pauses between attempts. Whether it is. */
int rssq_queue_pause(rssq_queue *queue, int64_t timeout_us);
int rssq_queue_is_stopping(rssq_queue *queue);
/* The last thing that the writer says; the queue may be gone after it. */
void rssq_queue_writer_gone(rssq_queue *queue);
/* Takes the oldest event: its size, 0: none, negative: more than room. */
int64_t rssq_queue_take_event(rssq_queue *queue, void *into, size_t room, uint64_t *end);
/* Takes the oldest stats: 1, or 0 when there are none. */
int rssq_queue_take_stats(rssq_queue *queue, rssq_stats *stats, uint64_t *end);
/* Wakes the producers that wait for room. */
void rssq_queue_made_room(rssq_queue *queue);
/* All events up to position `end` have come to their end: so many stored and rejected. */
void rssq_queue_events_done(rssq_queue *queue, uint64_t end, uint64_t stored, uint64_t rejected);
void rssq_queue_stats_done(rssq_queue *queue, uint64_t end, uint64_t stored, uint64_t rejected);
/* The writer has nothing in hand of what is before the oldest in the ring. */
void rssq_queue_nothing_in_hand(rssq_queue *queue, int events, int stats);
void rssq_queue_note_reconnect(rssq_queue *queue);
/* What went wrong; NULL: it works again. */
void rssq_queue_note_error(rssq_queue *queue, const char *text);

#endif
