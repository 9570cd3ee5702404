/* What batch.c and copy.c share: the batch from the inside. */
#ifndef ROOTSTREAM_BATCH_PARTS_H
#define ROOTSTREAM_BATCH_PARTS_H

#include "batch.h"

/* Bytes that grow. */
typedef struct {
    unsigned char *bytes;
    size_t used;
    size_t room;
} rssq_buffer;

typedef struct {
    size_t offset; /* of its rssq_event in the bytes of the batch, a multiple of 8 */
    uint64_t end;
    const char *field;
    const char *error;
    size_t at;
    int32_t group; /* -1: none */
} rssq_item;

typedef struct {
    const unsigned char *type;
    const unsigned char *id;
    uint32_t hash;
    uint16_t type_size;
    uint16_t id_size;
    int is_closed;
    int64_t count;
    int64_t version; /* of the last event that was written out, or before the first */
} rssq_group;

struct rssq_batch {
    rssq_buffer events;
    rssq_item *items;
    int count;
    int items_room;
    rssq_group *groups;
    int group_count;
    int groups_room;
    int32_t *table; /* by hash: number of a group + 1 */
    uint32_t table_size;
    rssq_buffer arrays[3];
    rssq_buffer copy;
    unsigned char *random;
    size_t random_room;
};

/* Room for so many bytes more: 0, or -1 when out of memory. */
int rssq_buffer_grow(rssq_buffer *buffer, size_t more);
void rssq_put_16(rssq_buffer *buffer, uint16_t value);
void rssq_put_32(rssq_buffer *buffer, uint32_t value);
void rssq_put_64(rssq_buffer *buffer, uint64_t value);
void rssq_put_bytes(rssq_buffer *buffer, const void *bytes, size_t size);

/* The five texts of an event. */
typedef struct {
    const rssq_event *head;
    const unsigned char *type;
    const unsigned char *id;
    const unsigned char *event_type;
    const unsigned char *data;
    const unsigned char *metadata;
} rssq_texts;

void rssq_texts_of(const rssq_batch *batch, int number, rssq_texts *texts);

#endif
