/* PostgreSQL's binary forms: arrays that a statement takes, and the rows that COPY takes. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* getrandom */
#endif
#include "batch_parts.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define OID_BIGINT 20
#define OID_TEXT 25
#define COLUMNS 10
#define UUID 16
#define NO_VALUE 0xFFFFFFFFu /* the length of a NULL */
#define MOST_RANDOM 256      /* bytes that getentropy gives at once */

void rssq_put_16(rssq_buffer *buffer, uint16_t value)
{
    buffer->bytes[buffer->used++] = (unsigned char)(value >> 8);
    buffer->bytes[buffer->used++] = (unsigned char)value;
}

void rssq_put_32(rssq_buffer *buffer, uint32_t value)
{
    rssq_put_16(buffer, (uint16_t)(value >> 16));
    rssq_put_16(buffer, (uint16_t)value);
}

void rssq_put_64(rssq_buffer *buffer, uint64_t value)
{
    rssq_put_32(buffer, (uint32_t)(value >> 32));
    rssq_put_32(buffer, (uint32_t)value);
}

void rssq_put_bytes(rssq_buffer *buffer, const void *bytes, size_t size)
{
    memcpy(buffer->bytes + buffer->used, bytes, size);
    buffer->used += size;
}

static void put_value(rssq_buffer *buffer, const void *bytes, size_t size)
{
    rssq_put_32(buffer, (uint32_t)size);
    rssq_put_bytes(buffer, bytes, size);
}

static void put_bigint(rssq_buffer *buffer, int64_t value)
{
    rssq_put_32(buffer, 8);
    rssq_put_64(buffer, (uint64_t)value);
}

/* ---- arrays */

const unsigned char *rssq_batch_array(rssq_batch *batch, int which, size_t *size)
{
    rssq_buffer *array = &batch->arrays[which];
    size_t needed = 20;
    int i;

    for (i = 0; i < batch->group_count; i++) {
        const rssq_group *group = &batch->groups[i];

        needed += 4 + (which == 0 ? group->id_size : which == 1 ? group->type_size : 8u);
    }
    array->used = 0;
    if (rssq_buffer_grow(array, needed) != 0)
        return NULL;
    rssq_put_32(array, batch->group_count ? 1 : 0); /* dimensions */
    rssq_put_32(array, 0);                          /* no NULL in it */
    rssq_put_32(array, which == 2 ? OID_BIGINT : OID_TEXT);
    if (batch->group_count) {
        rssq_put_32(array, (uint32_t)batch->group_count);
        rssq_put_32(array, 1); /* the first index */
    }
    for (i = 0; i < batch->group_count; i++) {
        const rssq_group *group = &batch->groups[i];

        if (which == 0)
            put_value(array, group->id, group->id_size);
        else if (which == 1)
            put_value(array, group->type, group->type_size);
        else
            put_bigint(array, group->count);
    }
    *size = array->used;
    return array->bytes;
}

void rssq_batch_set_versions(rssq_batch *batch, const int64_t *versions)
{
    int i;

    for (i = 0; i < batch->group_count; i++) {
        batch->groups[i].is_closed = versions[i] == 0;
        batch->groups[i].version = versions[i] - batch->groups[i].count;
    }
}

/* ---- COPY */

/* Random bytes for so many ids. */
static int make_random(rssq_batch *batch, int count)
{
    const size_t needed = (size_t)count * UUID;
    size_t i;

    if (needed > batch->random_room) {
        unsigned char *bytes = realloc(batch->random, needed);

        if (bytes == NULL)
            return -1;
        batch->random = bytes;
        batch->random_room = needed;
    }
    for (i = 0; i < needed; i += MOST_RANDOM)
        if (getentropy(batch->random + i, needed - i < MOST_RANDOM ? needed - i : MOST_RANDOM) != 0)
            return -1;
    return 0;
}

/* A UUIDv7 (RFC 9562) of 16 random bytes. */
static void make_id(unsigned char *id, uint64_t milliseconds)
{
    int i;

    for (i = 0; i < 6; i++)
        id[i] = (unsigned char)(milliseconds >> (40 - 8 * i));
    id[6] = (unsigned char)(0x70 | (id[6] & 0x0F));
    id[8] = (unsigned char)(0x80 | (id[8] & 0x3F));
}

static int put_row(rssq_batch *batch, const rssq_texts *texts, rssq_group *group, const unsigned char *id, int64_t timestamp_us)
{
    static const unsigned char jsonb_version = 1, no = 0;
    const rssq_event *head = texts->head;
    rssq_buffer *copy = &batch->copy;

    if (rssq_buffer_grow(copy, 128 + (size_t)head->type_size + head->id_size + head->event_type_size + head->data_size +
                                   (head->has_metadata ? head->metadata_size : 0)) != 0)
        return -1;
    rssq_put_16(copy, COLUMNS);
    put_value(copy, texts->id, head->id_size);
    put_value(copy, texts->type, head->type_size);
    put_bigint(copy, ++group->version);
    put_value(copy, texts->event_type, head->event_type_size);
    put_value(copy, id, UUID);
    put_value(copy, &no, 1); /* is_repeatable */
    rssq_put_32(copy, head->data_size + 1);
    rssq_put_bytes(copy, &jsonb_version, 1);
    rssq_put_bytes(copy, texts->data, head->data_size);
    if (head->has_metadata) {
        rssq_put_32(copy, head->metadata_size + 1);
        rssq_put_bytes(copy, &jsonb_version, 1);
        rssq_put_bytes(copy, texts->metadata, head->metadata_size);
    } else
        rssq_put_32(copy, NO_VALUE);
    if (head->has_user)
        put_bigint(copy, head->user_id);
    else
        rssq_put_32(copy, NO_VALUE);
    put_bigint(copy, timestamp_us);
    return 0;
}

const unsigned char *rssq_batch_copy(rssq_batch *batch, int from, int to, int64_t timestamp_us, size_t *size, int *rows)
{
    static const char signature[11] = {'P', 'G', 'C', 'O', 'P', 'Y', '\n', '\377', '\r', '\n', '\0'};
    rssq_buffer *copy = &batch->copy;
    struct timespec now;
    uint64_t milliseconds;
    int i;

    copy->used = 0;
    *rows = 0;
    if (make_random(batch, to - from) != 0 || rssq_buffer_grow(copy, 32) != 0)
        return NULL;
    clock_gettime(CLOCK_REALTIME, &now);
    milliseconds = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    rssq_put_bytes(copy, signature, sizeof signature);
    rssq_put_32(copy, 0); /* flags */
    rssq_put_32(copy, 0); /* bytes of extensions */
    for (i = from; i < to; i++) {
        unsigned char *id = batch->random + (size_t)(i - from) * UUID;
        rssq_texts texts;
        rssq_group *group;

        if (batch->items[i].group < 0)
            continue;
        group = &batch->groups[batch->items[i].group];
        if (group->is_closed)
            continue;
        make_id(id, milliseconds);
        rssq_texts_of(batch, i, &texts);
        if (put_row(batch, &texts, group, id, timestamp_us) != 0)
            return NULL;
        ++*rows;
    }
    if (rssq_buffer_grow(copy, 2) != 0)
        return NULL;
    rssq_put_16(copy, 0xFFFF); /* the end */
    *size = copy->used;
    return copy->bytes;
}
