#include "batch_parts.h"

#include <stdlib.h>
#include <string.h>

#include "payload.h"

rssq_batch *rssq_batch_new(void)
{
    return calloc(1, sizeof(rssq_batch));
}

void rssq_batch_free(rssq_batch *batch)
{
    int i;

    if (batch == NULL)
        return;
    for (i = 0; i < 3; i++)
        free(batch->arrays[i].bytes);
    free(batch->events.bytes);
    free(batch->copy.bytes);
    free(batch->items);
    free(batch->groups);
    free(batch->table);
    free(batch->random);
    free(batch);
}

int rssq_buffer_grow(rssq_buffer *buffer, size_t more)
{
    size_t room = buffer->room ? buffer->room : 4096;
    unsigned char *bytes;

    if (buffer->room - buffer->used >= more)
        return 0;
    while (room - buffer->used < more)
        room *= 2;
    bytes = realloc(buffer->bytes, room);
    if (bytes == NULL)
        return -1;
    buffer->bytes = bytes;
    buffer->room = room;
    return 0;
}

void rssq_texts_of(const rssq_batch *batch, int number, rssq_texts *texts)
{
    const unsigned char *at = batch->events.bytes + batch->items[number].offset;

    texts->head = (const rssq_event *)(const void *)at;
    texts->type = at + sizeof *texts->head;
    texts->id = texts->type + texts->head->type_size;
    texts->event_type = texts->id + texts->head->id_size;
    texts->data = texts->event_type + texts->head->event_type_size;
    texts->metadata = texts->data + texts->head->data_size;
}

static void check(rssq_batch *batch, int number)
{
    rssq_item *item = &batch->items[number];
    rssq_texts texts;

    rssq_texts_of(batch, number, &texts);
    item->group = -1;
    item->field = "aggregate_type";
    item->error = rssq_check_name(texts.type, texts.head->type_size, &item->at);
    if (item->error == NULL) {
        item->field = "aggregate_id";
        item->error = rssq_check_name(texts.id, texts.head->id_size, &item->at);
    }
    if (item->error == NULL) {
        item->field = "event_type";
        item->error = rssq_check_name(texts.event_type, texts.head->event_type_size, &item->at);
    }
    if (item->error == NULL) {
        item->field = "data";
        item->error = rssq_check_json(texts.data, texts.head->data_size, &item->at);
    }
    if (item->error == NULL && texts.head->has_metadata) {
        item->field = "metadata";
        item->error = rssq_check_json(texts.metadata, texts.head->metadata_size, &item->at);
    }
    if (item->error == NULL)
        item->field = NULL;
}

static int room_for_item(rssq_batch *batch)
{
    rssq_item *items;
    int room;

    if (batch->count < batch->items_room)
        return 0;
    room = batch->items_room ? 2 * batch->items_room : 256;
    items = realloc(batch->items, (size_t)room * sizeof *items);
    if (items == NULL)
        return -1;
    batch->items = items;
    batch->items_room = room;
    return 0;
}

int rssq_batch_fill(rssq_batch *batch, rssq_queue *queue, int most, size_t most_bytes)
{
    rssq_buffer *events = &batch->events;
    int i, is_short = 0; /* of memory: what was taken so far must not be lost */

    batch->count = batch->group_count = 0;
    events->used = 0;
    while (batch->count < most && (batch->count == 0 || events->used < most_bytes)) {
        uint64_t end;
        int64_t size;

        is_short = room_for_item(batch) != 0;
        if (is_short)
            break;
        size = rssq_queue_take_event(queue, events->bytes + events->used, events->room - events->used, &end);
        if (size == 0)
            break;
        if (size < 0) {
            is_short = rssq_buffer_grow(events, (size_t)-size) != 0;
            if (is_short)
                break;
            continue;
        }
        batch->items[batch->count].offset = events->used;
        batch->items[batch->count].end = end;
        batch->count++;
        events->used += ((size_t)size + 7) & ~(size_t)7; /* the next rssq_event must be aligned */
        if (events->used > events->room)
            events->used = events->room;
    }
    rssq_queue_made_room(queue);
    for (i = 0; i < batch->count; i++)
        check(batch, i);
    return is_short && batch->count == 0 ? -1 : batch->count;
}

uint64_t rssq_batch_end(const rssq_batch *batch, int to)
{
    return batch->items[to - 1].end;
}

void rssq_batch_view(const rssq_batch *batch, int number, rssq_view *view)
{
    const rssq_item *item = &batch->items[number];
    rssq_texts texts;

    rssq_texts_of(batch, number, &texts);
    view->end = item->end;
    view->user_id = texts.head->user_id;
    view->aggregate_type = (const char *)texts.type;
    view->aggregate_id = (const char *)texts.id;
    view->event_type = (const char *)texts.event_type;
    view->data = (const char *)texts.data;
    view->metadata = texts.head->has_metadata ? (const char *)texts.metadata : NULL;
    view->field = item->field;
    view->error = item->error;
    view->at = item->at;
    view->aggregate_type_size = texts.head->type_size;
    view->aggregate_id_size = texts.head->id_size;
    view->event_type_size = texts.head->event_type_size;
    view->data_size = texts.head->data_size;
    view->metadata_size = texts.head->has_metadata ? texts.head->metadata_size : 0;
    view->has_user = texts.head->has_user;
    view->is_closed = item->group >= 0 && batch->groups[item->group].is_closed;
}

/* ---- by aggregate */

static uint32_t hash_of(const unsigned char *bytes, size_t size, uint32_t hash)
{
    size_t i;

    for (i = 0; i < size; i++) /* FNV-1a */
        hash = (hash ^ bytes[i]) * 16777619u;
    return (hash ^ 0xFFu) * 16777619u; /* so that ("ab", "c") is not ("a", "bc") */
}

static int clear_table(rssq_batch *batch, int events)
{
    uint32_t size = 64;

    while (size < 2 * (uint32_t)events)
        size *= 2;
    if (size > batch->table_size) {
        int32_t *table = realloc(batch->table, size * sizeof *table);
        rssq_group *groups;

        if (table == NULL)
            return -1;
        batch->table = table;
        batch->table_size = size;
        groups = realloc(batch->groups, size / 2 * sizeof *groups);
        if (groups == NULL) {
            batch->table_size = 0;
            return -1;
        }
        batch->groups = groups;
        batch->groups_room = (int)(size / 2);
    }
    memset(batch->table, 0, batch->table_size * sizeof *batch->table);
    return 0;
}

static int32_t group_of(rssq_batch *batch, const rssq_texts *texts)
{
    const rssq_event *head = texts->head;
    const uint32_t hash =
        hash_of(texts->id, head->id_size, hash_of(texts->type, head->type_size, 2166136261u));
    uint32_t slot = (hash ^ hash >> 15) & (batch->table_size - 1);
    rssq_group *group;

    for (;; slot = (slot + 1) & (batch->table_size - 1)) {
        const int32_t number = batch->table[slot] - 1;

        if (number < 0)
            break;
        group = &batch->groups[number];
        if (group->hash == hash && group->type_size == head->type_size && group->id_size == head->id_size &&
            memcmp(group->type, texts->type, head->type_size) == 0 && memcmp(group->id, texts->id, head->id_size) == 0)
            return number;
    }
    group = &batch->groups[batch->group_count];
    group->type = texts->type;
    group->id = texts->id;
    group->hash = hash;
    group->type_size = head->type_size;
    group->id_size = head->id_size;
    group->is_closed = 0;
    group->count = 0;
    group->version = 0;
    batch->table[slot] = ++batch->group_count;
    return batch->group_count - 1;
}

int rssq_batch_group(rssq_batch *batch, int from, int to)
{
    int i;

    batch->group_count = 0;
    if (clear_table(batch, to - from) != 0)
        return -1;
    for (i = from; i < to; i++) {
        rssq_texts texts;

        batch->items[i].group = -1;
        if (batch->items[i].error != NULL)
            continue;
        rssq_texts_of(batch, i, &texts);
        batch->items[i].group = group_of(batch, &texts);
        batch->groups[batch->items[i].group].count++;
    }
    return batch->group_count;
}

int rssq_batch_bad(const rssq_batch *batch, int from, int to, int32_t *numbers)
{
    int i, count = 0;

    for (i = from; i < to; i++) {
        const int32_t group = batch->items[i].group;

        if (group < 0 || batch->groups[group].is_closed)
            numbers[count++] = i;
    }
    return count;
}

void rssq_batch_mark(rssq_batch *batch, int number)
{
    batch->items[number].error = "was refused by PostgreSQL";
    batch->items[number].at = 0;
    batch->items[number].group = -1;
}
