/* Rows: all of an answer in one piece of memory, read without Python and without a lock. */
#include "records.h"

#include <stdlib.h>
#include <string.h>

struct rows {
    int record;
    int64_t count;
    int64_t next;      /* atomic: threads may share the rows */
    size_t starts[];   /* of each row, from the begin of this struct */
};

void *rssi_rows_new(int record, PyObject *list)
{
    struct rssi_buffer buffer = {NULL, 0, 0, 0};
    struct rows head = {record, 0, 0}, *rows;
    PyObject *items = PySequence_Fast(list, "a list of rows was expected");
    size_t table;
    int64_t i;

    if (items == NULL)
        return NULL;
    head.count = PySequence_Fast_GET_SIZE(items);
    table = sizeof head + (size_t)head.count * sizeof(size_t);
    buffer.data = malloc(table + (size_t)head.count * 256);
    if (buffer.data == NULL) {
        Py_DECREF(items);
        PyErr_NoMemory();
        return NULL;
    }
    buffer.is_heap = 1;
    buffer.capacity = table + (size_t)head.count * 256;
    buffer.size = table;
    memcpy(buffer.data, &head, sizeof head);
    for (i = 0; i < head.count; i++) {
        ((struct rows *)(void *)buffer.data)->starts[i] = buffer.size;
        if (rssi_pack(&rssi_records[record], PySequence_Fast_GET_ITEM(items, i), &buffer) < 0) {
            rssi_buffer_free(&buffer);
            Py_DECREF(items);
            return NULL;
        }
    }
    Py_DECREF(items);
    rows = realloc(buffer.data, buffer.size);
    return rows != NULL ? (void *)rows : (void *)buffer.data;
}

int rssi_rows_next(rss_rows *handle, int record, void *row)
{
    struct rssi_guard guard;
    struct rssi_slot *slot;
    int code = rssi_enter(&guard, RSSI_PLAIN);

    if (code == RSS_OK && (code = rssi_acquire(handle, RSSI_ROWS, &slot)) == RSS_OK) {
        struct rows *rows = slot->object;

        if (rows->record != record) {
            code = rssi_error(RSS_E_MISUSE, "these are rows of rss_%s, not of rss_%s",
                              rssi_records[rows->record].name, rssi_records[record].name);
        } else {
            int64_t number = __atomic_load_n(&rows->next, __ATOMIC_RELAXED);

            do {
                code = number < rows->count ? RSS_OK : RSS_NOTHING;
            } while (code == RSS_OK && !__atomic_compare_exchange_n(&rows->next, &number, number + 1, 1,
                                                                    __ATOMIC_RELAXED, __ATOMIC_RELAXED));
            if (code == RSS_OK && row != NULL)
                code = rssi_unpack(&rssi_records[record], (char *)rows + rows->starts[number], row);
        }
        rssi_release(slot);
    }
    return rssi_leave(&guard, code);
}

int64_t rss_rows_count(const rss_rows *handle)
{
    struct rssi_guard guard;
    struct rssi_slot *slot;
    int64_t count = -1;
    int code = rssi_enter(&guard, RSSI_PLAIN);

    if (code == RSS_OK && (code = rssi_acquire(handle, RSSI_ROWS, &slot)) == RSS_OK) {
        count = ((struct rows *)slot->object)->count;
        rssi_release(slot);
    }
    rssi_leave(&guard, code);
    return count;
}

int rss_rows_rewind(rss_rows *handle)
{
    struct rssi_guard guard;
    struct rssi_slot *slot;
    int code = rssi_enter(&guard, RSSI_PLAIN);

    if (code == RSS_OK && (code = rssi_acquire(handle, RSSI_ROWS, &slot)) == RSS_OK) {
        __atomic_store_n(&((struct rows *)slot->object)->next, 0, __ATOMIC_RELAXED);
        rssi_release(slot);
    }
    return rssi_leave(&guard, code);
}

int rss_rows_free(rss_rows *handle)
{
    struct rssi_guard guard;
    struct rssi_slot *slot;
    int code = rssi_enter(&guard, RSSI_PLAIN);

    if (code == RSS_OK && handle != NULL && (code = rssi_begin_close(handle, RSSI_ROWS, &slot)) == RSS_OK)
        (void)rssi_finish(slot, 0); /* a thread in the midst of a row frees them at its end */
    return rssi_leave(&guard, code);
}

int rss_user_next(rss_rows *rows, rss_user *user)
{
    return rssi_rows_next(rows, RSSI_REC_user, user);
}

int rss_session_next(rss_rows *rows, rss_session *session)
{
    return rssi_rows_next(rows, RSSI_REC_session, session);
}

int rss_stream_next(rss_rows *rows, rss_stream *stream)
{
    return rssi_rows_next(rows, RSSI_REC_stream, stream);
}

int rss_stream_session_next(rss_rows *rows, rss_stream_session *session)
{
    return rssi_rows_next(rows, RSSI_REC_stream_session, session);
}

int rss_recording_next(rss_rows *rows, rss_recording *recording)
{
    return rssi_rows_next(rows, RSSI_REC_recording, recording);
}

int rss_usage_month_next(rss_rows *rows, rss_monthly_usage *usage)
{
    return rssi_rows_next(rows, RSSI_REC_monthly_usage, usage);
}

int rss_event_next(rss_rows *rows, rss_event *event)
{
    return rssi_rows_next(rows, RSSI_REC_event, event);
}

int rss_ranked_stream_next(rss_rows *rows, rss_ranked_stream *stream)
{
    return rssi_rows_next(rows, RSSI_REC_ranked_stream, stream);
}
