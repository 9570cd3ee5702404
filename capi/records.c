/* The tables of the structs, and the way from a Python record through a compact form into a caller's struct. */
#include "records.h"

#include <stdlib.h>
#include <string.h>

#define SIZE(r, f) sizeof(((rss_##r *)0)->f)
#define FIELD(type, r, f) {type, offsetof(rss_##r, f), SIZE(r, f), 0, #f, NULL}
#define INT(r, f) FIELD(RSSI_INT, r, f)
#define FLAG(r, f) FIELD(RSSI_FLAG, r, f)
#define F64(r, f) FIELD(RSSI_F64, r, f)
#define TIME(r, f) FIELD(RSSI_TIME, r, f)
#define TEXT(r, f) FIELD(RSSI_TEXT, r, f)
#define TEXT_OR_NONE(r, f) {RSSI_TEXT, offsetof(rss_##r, f), SIZE(r, f), offsetof(rss_##r, has_##f), #f, NULL}

static struct rssi_field user[] = {
    FLAG(user, is_verified), FLAG(user, is_active),  INT(user, id),         TIME(user, created_at),
    TIME(user, updated_at),  TIME(user, last_login_at), TEXT(user, username), TEXT(user, email),
    TEXT_OR_NONE(user, display_name), TEXT_OR_NONE(user, avatar_url),
};
static struct rssi_field session[] = {
    FLAG(session, is_active), INT(session, user_id), TIME(session, created_at), TIME(session, expires_at),
    TIME(session, last_activity), FIELD(RSSI_HASH, session, token_hash), TEXT_OR_NONE(session, device_id),
    TEXT_OR_NONE(session, user_agent), TEXT_OR_NONE(session, ip_address),
};
static struct rssi_field stream[] = {
    FLAG(stream, is_live), FLAG(stream, is_public), INT(stream, id), INT(stream, user_id),
    INT(stream, viewer_count), INT(stream, bitrate_kbps), F64(stream, fps), TIME(stream, created_at),
    TIME(stream, updated_at), TIME(stream, started_at), TIME(stream, ended_at), TEXT(stream, name),
    TEXT_OR_NONE(stream, description), TEXT_OR_NONE(stream, stream_url), TEXT_OR_NONE(stream, thumbnail_url),
    TEXT_OR_NONE(stream, resolution), TEXT_OR_NONE(stream, codec),
};
static struct rssi_field stream_session[] = {
    FLAG(stream_session, is_recorded), INT(stream_session, stream_id), INT(stream_session, id),
    TIME(stream_session, session_start), TIME(stream_session, session_end), INT(stream_session, total_viewers),
    INT(stream_session, peak_viewers), INT(stream_session, unique_viewers), INT(stream_session, total_bytes_sent),
    INT(stream_session, duration_seconds), TEXT_OR_NONE(stream_session, recording_path),
};
static struct rssi_field recording[] = {
    FLAG(recording, is_processed), FLAG(recording, is_available), INT(recording, stream_id), INT(recording, id),
    INT(recording, session_id), INT(recording, file_size_bytes), INT(recording, duration_seconds),
    F64(recording, fps), INT(recording, bitrate_kbps), TIME(recording, created_at), TIME(recording, updated_at),
    TIME(recording, expires_at), TEXT(recording, file_path), TEXT_OR_NONE(recording, codec),
    TEXT_OR_NONE(recording, resolution),
};
static struct rssi_field usage_total[] = {
    INT(usage_total, events), INT(usage_total, bytes_transferred), INT(usage_total, duration_seconds),
};
static struct rssi_field monthly_usage[] = {
    FIELD(RSSI_DATE, monthly_usage, month), INT(monthly_usage, events), INT(monthly_usage, bytes_transferred),
    INT(monthly_usage, duration_seconds),
};
static struct rssi_field billing_account[] = {
    INT(billing_account, user_id), INT(billing_account, monthly_limit_gb), TIME(billing_account, created_at),
    TIME(billing_account, updated_at), TEXT(billing_account, subscription_tier),
    TEXT_OR_NONE(billing_account, payment_method),
};
static struct rssi_field quota[] = {
    FLAG(quota, is_over_limit), INT(quota, user_id), INT(quota, monthly_limit_gb), INT(quota, bytes_transferred),
    TEXT(quota, subscription_tier),
};
static struct rssi_field appended[] = {
    INT(appended, version), INT(appended, position), TIME(appended, timestamp),
    FIELD(RSSI_UUID, appended, event_id),
};
static struct rssi_field event[] = {
    INT(event, position), INT(event, version), INT(event, user_id), TIME(event, timestamp),
    {RSSI_JSON, offsetof(rss_event, data_json), SIZE(event, data_json), 0, "event_data", NULL},
    {RSSI_JSON, offsetof(rss_event, metadata_json), SIZE(event, metadata_json), 0, "metadata", NULL},
    TEXT(event, aggregate_type), TEXT(event, aggregate_id), TEXT(event, event_type),
    FIELD(RSSI_UUID, event, event_id),
};
static struct rssi_field snapshot[] = {
    INT(snapshot, version), INT(snapshot, position), INT(snapshot, schema_version), TIME(snapshot, created_at),
};
static struct rssi_field horizon[] = {
    FLAG(horizon, is_primary), INT(horizon, position), INT(horizon, last_position),
};
static struct rssi_field health[] = {
    FLAG(health, status), FLAG(health, postgres_reachable), FLAG(health, redis_enabled),
    FLAG(health, redis_reachable), F64(health, postgres_latency_ms), INT(health, pool_size),
    INT(health, pool_in_use), INT(health, pool_waiting), INT(health, migrations_pending), TEXT(health, reasons),
};

static struct rssi_field viewer_count[] = {
    FLAG(viewer_count, is_change), FLAG(viewer_count, is_counted), INT(viewer_count, current),
};
static struct rssi_field viewer_figures[] = {
    FLAG(viewer_figures, is_from_redis), INT(viewer_figures, stream_id), INT(viewer_figures, session_id),
    INT(viewer_figures, current), INT(viewer_figures, peak), INT(viewer_figures, unique),
    TIME(viewer_figures, as_of),
};
static struct rssi_field ranked_stream[] = {
    INT(ranked_stream, stream_id), INT(ranked_stream, viewers),
};
static struct rssi_field message[] = {
    FLAG(message, is_gap), F64(message, gap_seconds), TEXT(message, channel),
};

const struct rssi_record rssi_records[RSSI_REC_COUNT] = {
#define RECORD(name) {#name, sizeof(rss_##name), name, (int)(sizeof name / sizeof *name)},
#include "records.def"
#undef RECORD
};

static PyObject *to_json; /* makes the bytes of a JSON text */

int rssi_records_boot(void)
{
    PyObject *module;
    int i, j;

    for (i = 0; i < RSSI_REC_COUNT; i++)
        for (j = 0; j < rssi_records[i].count; j++) {
            struct rssi_field *field = &rssi_records[i].fields[j];

            if (field->key == NULL && (field->key = PyUnicode_InternFromString(field->name)) == NULL)
                return -1;
        }
    if (to_json != NULL)
        return 0;
    module = PyImport_ImportModule("rootstream_store.capi._entry");
    to_json = module == NULL ? NULL : PyObject_GetAttrString(module, "to_json");
    Py_XDECREF(module);
    return to_json == NULL ? -1 : 0;
}

int rssi_record_find(const char *name, size_t length)
{
    int i;

    for (i = 0; i < RSSI_REC_COUNT; i++)
        if (strlen(rssi_records[i].name) == length && memcmp(rssi_records[i].name, name, length) == 0)
            return i;
    return -1;
}

int rssi_buffer_add(struct rssi_buffer *buffer, const void *bytes, size_t size)
{
    if (buffer->capacity - buffer->size < size) {
        size_t capacity = (buffer->size + size) * 2;
        char *data = buffer->is_heap ? realloc(buffer->data, capacity) : malloc(capacity);

        if (data == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        if (!buffer->is_heap && buffer->size > 0)
            memcpy(data, buffer->data, buffer->size);
        buffer->data = data;
        buffer->capacity = capacity;
        buffer->is_heap = 1;
    }
    if (size > 0)
        memcpy(buffer->data + buffer->size, bytes, size);
    buffer->size += size;
    return 0;
}

void rssi_buffer_free(struct rssi_buffer *buffer)
{
    if (buffer->is_heap)
        free(buffer->data);
    buffer->data = NULL;
    buffer->is_heap = 0;
}

/* Its length, -1 for none, then the bytes and a NUL. */
static int pack_text(const char *text, int64_t length, struct rssi_buffer *buffer)
{
    if (rssi_buffer_add(buffer, &length, sizeof length) < 0)
        return -1;
    return length < 0 ? 0 : rssi_buffer_add(buffer, text, (size_t)length) < 0 ? -1 : rssi_buffer_add(buffer, "", 1);
}

static int pack_string(PyObject *value, struct rssi_buffer *buffer)
{
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(value, &length);

    return text == NULL ? -1 : pack_text(text, length, buffer);
}

static int pack_made(PyObject *made, struct rssi_buffer *buffer)
{
    int failed = -1;

    if (made != NULL)
        failed = PyBytes_Check(made) ? pack_text(PyBytes_AS_STRING(made), PyBytes_GET_SIZE(made), buffer)
                                     : pack_string(made, buffer);
    Py_XDECREF(made);
    return failed;
}

static int pack_value(enum rssi_type type, PyObject *value, struct rssi_buffer *buffer)
{
    int is_none = value == Py_None;
    int64_t number = RSS_NONE;
    double real = RSS_NONE_F64;

    switch (type) {
    case RSSI_INT:
        if (!is_none && (number = PyLong_AsLongLong(value)) == -1 && PyErr_Occurred())
            return -1;
        break;
    case RSSI_FLAG:
        if ((number = is_none ? 0 : PyLong_AsLongLong(value)) == -1 && PyErr_Occurred())
            return -1;
        break;
    case RSSI_TIME:
        if (!is_none && rssi_time_out(value, &number) < 0)
            return -1;
        break;
    case RSSI_DATE:
        if (!is_none && rssi_date_out(value, &number) < 0)
            return -1;
        break;
    case RSSI_F64:
        if (!is_none && (real = PyFloat_AsDouble(value)) == -1.0 && PyErr_Occurred())
            return -1;
        return rssi_buffer_add(buffer, &real, sizeof real);
    case RSSI_TEXT:
        return is_none ? pack_text(NULL, -1, buffer) : pack_string(value, buffer);
    case RSSI_UUID:
        return is_none ? pack_text(NULL, -1, buffer) : pack_made(PyObject_Str(value), buffer);
    case RSSI_JSON:
        return is_none ? pack_text(NULL, -1, buffer) : pack_made(PyObject_CallOneArg(to_json, value), buffer);
    case RSSI_HASH:
        if (!PyBytes_Check(value) || PyBytes_GET_SIZE(value) != RSS_HASH_SIZE) {
            PyErr_SetString(PyExc_TypeError, "a hash of 32 bytes was expected");
            return -1;
        }
        return rssi_buffer_add(buffer, PyBytes_AS_STRING(value), RSS_HASH_SIZE);
    }
    return rssi_buffer_add(buffer, &number, sizeof number);
}

int rssi_pack(const struct rssi_record *record, PyObject *row, struct rssi_buffer *buffer)
{
    int i;

    for (i = 0; i < record->count; i++) {
        PyObject *value = PyObject_GetAttr(row, record->fields[i].key);
        int failed = value == NULL ? -1 : pack_value(record->fields[i].type, value, buffer);

        Py_XDECREF(value);
        if (failed < 0)
            return -1;
    }
    return 0;
}

/* Cut between characters where it does not fit. 1: it was cut. */
static int copy_text(char *to, size_t size, const char *text, int64_t length)
{
    size_t kept = length < 0 ? 0 : (size_t)length;
    int is_cut = kept >= size;

    if (is_cut) {
        kept = size - 1;
        while (kept > 0 && ((unsigned char)text[kept] & 0xC0) == 0x80)
            kept--;
    }
    memcpy(to, text, kept);
    to[kept] = '\0';
    return is_cut;
}

int rssi_unpack(const struct rssi_record *record, const char *packed, void *row)
{
    size_t size = *(size_t *)row;
    uint32_t truncated = 0, text_number = 0;
    int64_t number;
    int32_t flag;
    char *to = row;
    int i;

    if (!rssi_is_struct(row))
        return rssi_error(RSS_E_MISUSE, "struct_size of rss_%s is not set: it must be sizeof(rss_%s)", record->name,
                          record->name);
    for (i = 0; i < record->count; i++) {
        const struct rssi_field *field = &record->fields[i];
        int fits = field->offset + field->size <= size; /* else the caller's header did not have it yet */

        switch (field->type) {
        case RSSI_FLAG:
            memcpy(&number, packed, sizeof number);
            flag = (int32_t)number;
            if (fits)
                memcpy(to + field->offset, &flag, sizeof flag);
            packed += sizeof number;
            break;
        case RSSI_INT:
        case RSSI_TIME:
        case RSSI_DATE:
        case RSSI_F64:
            if (fits)
                memcpy(to + field->offset, packed, sizeof number);
            packed += sizeof number;
            break;
        case RSSI_HASH:
            if (fits)
                memcpy(to + field->offset, packed, RSS_HASH_SIZE);
            packed += RSS_HASH_SIZE;
            break;
        case RSSI_TEXT:
        case RSSI_UUID:
        case RSSI_JSON:
            memcpy(&number, packed, sizeof number);
            packed += sizeof number;
            if (field->type == RSSI_JSON) {
                const char *text = number < 0 ? NULL : packed;

                if (fits)
                    memcpy(to + field->offset, &text, sizeof text);
            } else {
                if (fits && copy_text(to + field->offset, field->size, packed, number))
                    truncated |= UINT32_C(1) << text_number;
                text_number++;
            }
            flag = number >= 0;
            if (field->has != 0 && field->has + sizeof flag <= size)
                memcpy(to + field->has, &flag, sizeof flag);
            packed += number < 0 ? 0 : number + 1;
            break;
        }
    }
    memcpy(to + sizeof(size_t), &truncated, sizeof truncated);
    if (size > record->size)
        memset(to + record->size, 0, size - record->size);
    return RSS_OK;
}
