#include "coalesce.h"

#include <stdlib.h>

struct rssq_rows {
    rssq_row *table; /* by hash of the stream's id */
    uint32_t size;   /* a power of two, at least twice the rows */
    uint32_t count;
    uint64_t end;
};

rssq_rows *rssq_rows_new(void)
{
    return calloc(1, sizeof(rssq_rows));
}

void rssq_rows_free(rssq_rows *rows)
{
    if (rows == NULL)
        return;
    free(rows->table);
    free(rows);
}

static rssq_row *row_of(rssq_row *table, uint32_t size, int64_t stream_id)
{
    uint32_t slot = (uint32_t)(((uint64_t)stream_id * 0x9E3779B97F4A7C15u) >> 32) & (size - 1);

    while (table[slot].reports != 0 && table[slot].stats.stream_id != stream_id)
        slot = (slot + 1) & (size - 1);
    return &table[slot];
}

static int grow(rssq_rows *rows)
{
    const uint32_t size = rows->size ? 2 * rows->size : 64;
    rssq_row *table;
    uint32_t i;

    if (2 * (rows->count + 1) <= rows->size)
        return 0;
    table = calloc(size, sizeof *table);
    if (table == NULL)
        return -1;
    for (i = 0; i < rows->size; i++)
        if (rows->table[i].reports != 0)
            *row_of(table, size, rows->table[i].stats.stream_id) = rows->table[i];
    free(rows->table);
    rows->table = table;
    rows->size = size;
    return 0;
}

static void add(rssq_rows *rows, const rssq_stats *stats)
{
    rssq_row *row = row_of(rows->table, rows->size, stats->stream_id);

    if (row->reports++ == 0) {
        row->stats = *stats;
        row->most_viewers = stats->viewer_count;
        rows->count++;
        return;
    }
    if (stats->viewer_count >= 0)
        row->stats.viewer_count = stats->viewer_count;
    if (stats->viewer_count > row->most_viewers)
        row->most_viewers = stats->viewer_count;
    if (stats->bitrate_kbps >= 0)
        row->stats.bitrate_kbps = stats->bitrate_kbps;
    if (stats->fps > 0)
        row->stats.fps = stats->fps;
    if (stats->bytes_sent > INT64_MAX - row->stats.bytes_sent)
        row->stats.bytes_sent = INT64_MAX;
    else
        row->stats.bytes_sent += stats->bytes_sent;
}

int rssq_rows_fill(rssq_rows *rows, rssq_queue *queue)
{
    rssq_stats stats;

    for (;;) {
        if (grow(rows) != 0)
            return -1;
        if (!rssq_queue_take_stats(queue, &stats, &rows->end))
            break;
        add(rows, &stats);
    }
    rssq_queue_made_room(queue);
    return (int)rows->count;
}

uint64_t rssq_rows_end(const rssq_rows *rows)
{
    return rows->end;
}

void rssq_rows_take(rssq_rows *rows, rssq_row *into)
{
    uint32_t i;

    for (i = 0; i < rows->size; i++) {
        if (rows->table[i].reports != 0)
            *into++ = rows->table[i];
        rows->table[i].reports = 0;
    }
    rows->count = 0;
}
