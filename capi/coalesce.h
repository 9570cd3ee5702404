/* Stats of many reports made one row a stream: the last figures, and the sum of the bytes. Used by one thread, the writer.
 * Internal to the library. */
#ifndef ROOTSTREAM_COALESCE_H
#define ROOTSTREAM_COALESCE_H

#include <stddef.h>
#include <stdint.h>

#include "queue.h"

typedef struct rssq_rows rssq_rows;

typedef struct {
    rssq_stats stats;
    int64_t most_viewers; /* of all reports, for the peak of the session; -1: none told */
    uint64_t reports;     /* how many were made one; 0: no row */
} rssq_row;

rssq_rows *rssq_rows_new(void);
void rssq_rows_free(rssq_rows *rows);
/* Takes all reports from the queue: how many rows there are now, -1 when out of memory (the rest stays in the queue). */
int rssq_rows_fill(rssq_rows *rows, rssq_queue *queue);
/* Position in the queue after the last report taken. */
uint64_t rssq_rows_end(const rssq_rows *rows);
/* Copies the rows out, as many as rssq_rows_fill said, and empties. */
void rssq_rows_take(rssq_rows *rows, rssq_row *into);

#endif
