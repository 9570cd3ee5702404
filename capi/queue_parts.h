/* What queue.c and queue_writer.c share: the queue from the inside. */
#ifndef ROOTSTREAM_QUEUE_PARTS_H
#define ROOTSTREAM_QUEUE_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "park.h"
#include "queue.h"

#define EVENT_CELL 128
#define STATS_CELL 64 /* one report */
#define LINE 64

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
} rssq_lane;

struct rssq_queue {
    int policy;
    int64_t block_us;
    _Atomic int holders;
    _Atomic int stopping;
    _Atomic int flushing; /* how many wait in rssq_queue_flush */
    char gap_1[LINE];
    rssq_park work; /* where the writer sleeps when there is nothing */
    char gap_2[LINE];
    rssq_park hurry; /* where it naps and pauses, and is disturbed only by who has a reason */
    rssq_park finished; /* where flushers wait */
    char gap_3[LINE];
    rssq_lane events;
    char gap_4[LINE];
    rssq_lane stats;
    int64_t warm_until; /* the writer's: until then it looks by itself every few milliseconds */
    _Atomic uint64_t batches;
    _Atomic uint64_t reconnects;
    _Atomic int is_gone; /* the writer */
    rssq_park gone;
    pthread_mutex_t error_lock;
    int is_failing;
    int is_cut; /* error is not all of it */
    char error[256];
};

/* Around a wait: rssq_before_wait and rssq_after_wait, where they are set. */
void *rssq_enter_wait(void);
void rssq_leave_wait(void *held);

#endif
