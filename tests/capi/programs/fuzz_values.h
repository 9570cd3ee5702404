/* What the fuzz driver hands to the library: values that are right, nearly right, and plainly wrong. */
#ifndef FUZZ_VALUES_H
#define FUZZ_VALUES_H

#include <math.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rootstream_legacy.h"
#include "rootstream_store.h"

#define HUGE_TEXT (3 << 20)
#define KEPT 16 /* handles of each kind */

static __thread uint64_t dice;

static uint64_t roll(void)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return dice;
}

static uint64_t below(uint64_t limit)
{
    return roll() % limit;
}

static char *huge_text, *long_text;
static rss_store *stores[4]; /* two that are open, two that are closed */

/* Handles that some thread has got and that any thread uses and ends. */
static void *handles[4][KEPT];

static void *any_handle(int kind)
{
    switch (below(8)) {
    case 0:
        return NULL;
    case 1:
        return (void *)(uintptr_t)roll();
    case 2:
        return (void *)stores[below(4)];
    default:
        return __atomic_load_n(&handles[kind][below(KEPT)], __ATOMIC_RELAXED);
    }
}

static void keep_handle(int kind, void *handle, void (*end)(void *))
{
    void *before = __atomic_exchange_n(&handles[kind][below(KEPT)], handle, __ATOMIC_RELAXED);

    if (before != NULL)
        end(before);
}

static rss_store *any_store(void)
{
    const uint64_t which = below(32);

    if (which == 0)
        return NULL;
    if (which == 1)
        return (rss_store *)(uintptr_t)roll();
    if (which == 2)
        return (rss_store *)any_handle((int)below(4));
    if (which == 3)
        return (rss_store *)((uintptr_t)stores[0] + (below(64) << below(60))); /* nearly one */
    return which < 6 ? stores[2 + below(2)] : stores[below(2)];
}

/* Never one that the others use. */
static rss_store *closed_store(void)
{
    return below(4) ? stores[2 + below(2)] : below(2) ? NULL : (rss_store *)(uintptr_t)roll();
}

static const char *any_text(void)
{
    static const char *const texts[] = {
        "", "a", "7", "stream", "ann", "Ann B", "ann@example.org", "correct horse battery", "{}", "[]", "{\"a\": 1}",
        "{\"a\": [1, 2, {\"b\": null}]}", "{\"a\"", "[1, 2", "{\"a\": 1e999999}", "{\"a\": \"\\u0000\"}",
        "{\"a\": \"\\ud800\"}", "\xff\xfe", "a\xc3", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80", "%s%n%p", "%(id)s",
        "'; DROP TABLE users; --", "\\", "\n", "\x01", "1920x1080", "h264", "free", "pro",
        "00000000-0000-0000-0000-000000000001", "not-a-uuid", "SELECT 1", "SELECT $1::text", "SELECT now(), NULL::text",
        "192.0.2.7", "::1", "999.1.1.1", "-1", "NaN", "Gr\xc3\xbc\xc3\x9f\x65", "\xf0\x9f\x8e\xac", "2026-01-01",
    };
    const uint64_t which = below(64);

    switch (which) {
    case 0:
    case 1:
    case 2:
        return NULL;
    case 3:
        return RSS_KEEP;
    case 4:
        return below(40) == 0 ? huge_text : long_text;
    case 5:
        return long_text + below(4000); /* of any length */
    default:
        return texts[roll() % (sizeof texts / sizeof *texts)];
    }
}

/* For the names of the former layer, which do not know RSS_KEEP. */
static const char *any_address(void)
{
    const char *text = any_text();

    return text == RSS_KEEP ? NULL : text;
}

static int64_t any_int(void)
{
    static const int64_t some[] = {
        RSS_NONE, RSS_KEEP_INT, -1, -2, -3, 0, 1, 2, 3, 7, 100, 1000, 1001, 10000, INT32_MAX, (int64_t)INT32_MAX + 1,
        INT64_MAX, INT64_MAX - 1, INT64_MIN + 2, 1767225600000000, -62135596800000000, 253402300799999999,
    };

    return below(16) == 0 ? (int64_t)roll() : some[roll() % (sizeof some / sizeof *some)];
}

/* Milliseconds that a test can wait for. */
static int64_t short_time(void)
{
    return (int64_t)below(4);
}

static double any_double(void)
{
    static const double some[] = {RSS_NONE_F64, RSS_KEEP_F64, 0, -1, 0.5, 30, 60, 1000, 1001, 1e300, -1e300};
    const uint64_t which = below(16);

    if (which == 0)
        return below(2) ? (double)INFINITY : -(double)INFINITY;
    if (which == 1)
        return (double)NAN;
    return some[roll() % (sizeof some / sizeof *some)];
}

static int any_flag(void)
{
    static const int some[] = {0, 1, 2, -1, RSS_KEEP_FLAG, INT32_MAX, INT32_MIN};

    return some[roll() % (sizeof some / sizeof *some)];
}

/* A struct for an answer: memory of twice its size, and a struct_size that the memory has. */
static void *any_struct(size_t size)
{
    static __thread uint64_t room[8192];
    size_t given = size;

    memset(room, (int)below(256), 2 * size);
    switch (below(16)) {
    case 0:
        return NULL;
    case 1:
        given = below(16);
        break;
    case 2:
        given = below(2 * size);
        break;
    case 3:
        given = 2 * size; /* of a newer header */
        break;
    default:
        break;
    }
    memcpy(room, &given, sizeof given);
    return room;
}

/* Bytes of any length; *size is never more than there are, but for NULL. */
static const void *any_bytes(size_t *size)
{
    switch (below(8)) {
    case 0:
        *size = below(2) ? 0 : below(100);
        return NULL;
    case 1:
        *size = below(50) ? 0 : HUGE_TEXT;
        return huge_text;
    default:
        *size = below(3000);
        return long_text;
    }
}

static char *any_buffer(size_t *size)
{
    static __thread char buffer[8192];

    *size = below(3) ? sizeof buffer : below(80);
    return below(8) ? buffer : NULL;
}

static const rss_new_event *any_events(size_t *count)
{
    static __thread rss_new_event events[4];
    size_t i;

    *count = below(5);
    for (i = 0; i < 4; i++) {
        events[i].struct_size = sizeof events[i];
        events[i].event_type = any_text();
        events[i].data_json = any_text();
        events[i].metadata_json = below(2) ? NULL : any_text();
        events[i].user_id = any_int();
        events[i].event_id = below(2) ? NULL : any_text();
        events[i].correlation_id = below(2) ? NULL : any_text();
        events[i].causation_id = below(2) ? NULL : any_text();
    }
    if (below(16) == 0) { /* it is the step from one to the next, so of one only */
        events[0].struct_size = below(sizeof events[0]);
        *count = below(2);
    }
    if (below(16) == 0) {
        *count = below(2) ? 0 : 3;
        return NULL;
    }
    return events;
}

static const rss_usage_entry *any_entries(size_t *count)
{
    static __thread rss_usage_entry entries[4];
    size_t i;

    *count = below(5);
    for (i = 0; i < 4; i++) {
        entries[i].struct_size = sizeof entries[i];
        entries[i].user_id = any_int();
        entries[i].stream_id = any_int();
        entries[i].event_type = any_text();
        entries[i].bytes_transferred = any_int();
        entries[i].duration_seconds = any_int();
        entries[i].created_at = any_int();
    }
    if (below(16) == 0) {
        entries[0].struct_size = below(sizeof entries[0]);
        *count = below(2);
    }
    if (below(16) == 0) {
        *count = below(2) ? 0 : 3;
        return NULL;
    }
    return entries;
}

static const unsigned char *any_hash(void)
{
    static unsigned char hash[32];

    return below(8) ? hash : NULL;
}

/* Of a store or a manager: what no server answers to, and what is no address. NULL: the test's own. */
static const char *any_url(void)
{
    static const char *const urls[] = {NULL, "", "x", "postgresql://nobody@127.0.0.1:1/x", "postgresql://%zz", "host=/nowhere",
                                       "redis://127.0.0.1:1", "unix:///nowhere", "\xff\xfe", "a=b=c"};

    return below(16) == 0 ? long_text : urls[roll() % (sizeof urls / sizeof *urls)];
}

static const rss_options *any_options(void)
{
    static __thread rss_options options;

    memset(&options, 0, sizeof options);
    options.struct_size = below(8) ? sizeof options : below(sizeof options);
    options.application_name = below(2) ? NULL : any_text();
    options.pool_size = below(2) ? 0 : any_int();
    options.pool_min_size = below(2) ? 0 : -1;
    options.pool_timeout_ms = below(2) ? 0 : any_int();
    options.statement_timeout_ms = below(2) ? 0 : any_int();
    options.queue_bytes = below(2) ? 0 : below(2) ? 65536 : RSS_OFF;
    options.queue_policy = below(8) ? 0 : any_flag();
    options.settings_json = below(2) ? "{\"connect_timeout\": 1}" : any_text();
    options.pool_min_size = 1;
    return below(8) ? &options : NULL;
}

static const rss_init_options *any_init_options(void)
{
    static __thread rss_init_options options;

    options.struct_size = below(8) ? sizeof options : below(sizeof options);
    options.python = any_text();
    if (options.python == RSS_KEEP)
        options.python = NULL;
    return below(2) ? &options : NULL;
}

static const rss_session *any_session(void)
{
    static __thread rss_session session;

    session.struct_size = below(8) ? sizeof session : below(sizeof session);
    session.created_at = any_int();
    return below(4) ? &session : NULL;
}

static const rss_ranked_stream *any_ranked_stream(void)
{
    static __thread rss_ranked_stream stream;

    stream.struct_size = below(8) ? sizeof stream : below(sizeof stream);
    stream.stream_id = any_int();
    stream.viewers = any_int();
    return below(4) ? &stream : NULL;
}

#endif
