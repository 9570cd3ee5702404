/* The events that the writer has in hand: taken from the queue, checked, told apart by aggregate, and written in the form that
 * COPY takes. Used by one thread. Internal to the library.
 *
 * A call for a part of the batch (from, to) is what halving it needs, to find the events that the server refuses.
 */
#ifndef ROOTSTREAM_BATCH_H
#define ROOTSTREAM_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "queue.h"

typedef struct rssq_batch rssq_batch;

typedef struct {
    uint64_t end; /* position in the queue after it */
    int64_t user_id;
    const char *aggregate_type;
    const char *aggregate_id;
    const char *event_type;
    const char *data;
    const char *metadata; /* NULL: none */
    const char *field;    /* which of them is wrong; NULL: none */
    const char *error;    /* what is wrong with it */
    size_t at;            /* at which byte */
    uint32_t aggregate_type_size;
    uint32_t aggregate_id_size;
    uint32_t event_type_size;
    uint32_t data_size;
    uint32_t metadata_size;
    int has_user;
    int is_closed; /* its aggregate is, as rssq_batch_set_versions was told */
} rssq_view;

rssq_batch *rssq_batch_new(void);
void rssq_batch_free(rssq_batch *batch);

/* Empties the batch, then takes events from the queue, at most so many and so many bytes (but always one that is there), and
 * checks them. How many; -1: out of memory, nothing was taken or what was taken is in the batch. */
int rssq_batch_fill(rssq_batch *batch, rssq_queue *queue, int most, size_t most_bytes);

/* Position in the queue after event number to - 1. */
uint64_t rssq_batch_end(const rssq_batch *batch, int to);

void rssq_batch_view(const rssq_batch *batch, int number, rssq_view *view);

/* Tells the sound events from..to-1 apart by aggregate: how many aggregates; -1: out of memory. */
int rssq_batch_group(rssq_batch *batch, int from, int to);

/* PostgreSQL's binary form of an array, with one element for each aggregate: 0 aggregate ids, 1 aggregate types (text[]),
 * 2 how many events (bigint[]). Valid until the next rssq_batch_group. NULL: out of memory. */
const unsigned char *rssq_batch_array(rssq_batch *batch, int which, size_t *size);

/* Of each aggregate, in the order of the arrays, its version after its events; 0 where it is closed. */
void rssq_batch_set_versions(rssq_batch *batch, const int64_t *versions);

/* From now on event `number` counts as one that cannot be stored: the server refused it. */
void rssq_batch_mark(rssq_batch *batch, int number);

/* The numbers of the events from..to-1 that cannot be stored: malformed, or of a closed aggregate. How many. */
int rssq_batch_bad(const rssq_batch *batch, int from, int to, int32_t *numbers);

/* What COPY event_log FROM STDIN (FORMAT binary) reads, of the events from..to-1 that can be stored, in the order of the columns
 * of sql/events/copy_events.sql. timestamp_us: microseconds since 2000, UTC. *rows: how many. Valid until the next call. NULL:
 * out of memory. */
const unsigned char *rssq_batch_copy(rssq_batch *batch, int from, int to, int64_t timestamp_us, size_t *size, int *rows);

#endif
