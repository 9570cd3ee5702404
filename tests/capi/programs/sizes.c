/* Callers with an older or a newer header, and texts that do not fit. */
#include "check.h"

#include <stddef.h>

/* rss_user as a first version might have been: it ends before last_login_at. */
static void older(rss_store *store)
{
    union {
        rss_user user;
        unsigned char bytes[sizeof(rss_user)];
    } u;
    size_t size = offsetof(rss_user, last_login_at), i;

    memset(u.bytes, 0xAA, sizeof u.bytes);
    u.user.struct_size = size;
    EXPECT(RSS_OK, rss_user_get(store, 1, &u.user));
    CHECK(u.user.id == 1 && u.user.is_active == 1 && u.user.struct_size == size);
    for (i = size; i < sizeof u.bytes; i++)
        CHECK(u.bytes[i] == 0xAA); /* not ours */
}

static void newer(rss_store *store)
{
    union {
        rss_user user;
        unsigned char bytes[sizeof(rss_user) + 64];
    } u;
    size_t i;

    memset(u.bytes, 0xAA, sizeof u.bytes);
    u.user.struct_size = sizeof u.bytes;
    EXPECT(RSS_OK, rss_user_get(store, 1, &u.user));
    CHECK(strcmp(u.user.username, "ann") == 0);
    for (i = sizeof(rss_user); i < sizeof u.bytes; i++)
        CHECK(u.bytes[i] == 0);
}

static void rewound(rss_store *store)
{
    rss_user user = RSS_USER_INIT;
    rss_rows *rows;
    int i;

    EXPECT(RSS_OK, rss_user_list(store, 0, 10, &rows));
    CHECK(rss_rows_count(rows) == 1);
    for (i = 0; i < 2; i++) {
        user.id = 0;
        EXPECT(RSS_OK, rss_user_next(rows, &user));
        CHECK(user.id == 1);
        EXPECT(RSS_NOTHING, rss_user_next(rows, &user));
        EXPECT(RSS_OK, rss_rows_rewind(rows));
    }
    EXPECT(RSS_OK, rss_rows_free(rows));
    EXPECT(RSS_E_CLOSED, rss_rows_rewind(rows));
}

static void wrong(rss_store *store)
{
    static const size_t sizes[] = {0, 1, 8, 15, (size_t)1 << 40, (size_t)-1};
    rss_new_event event = RSS_NEW_EVENT_INIT;
    rss_options options = RSS_OPTIONS_INIT;
    rss_usage_entry entry = RSS_USAGE_ENTRY_INIT;
    rss_store *other;
    rss_user user = RSS_USER_INIT;
    size_t i;

    for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        user.struct_size = event.struct_size = options.struct_size = entry.struct_size = sizes[i];
        EXPECT(RSS_E_MISUSE, rss_user_get(store, 1, &user));
        EXPECT(RSS_E_MISUSE, rss_user_create(store, "x", "x@example.org", "12345678", NULL, NULL, &user));
        EXPECT(RSS_E_MISUSE, rss_event_append(store, "a", "1", &event, RSS_ANY_VERSION, NULL));
        EXPECT(RSS_E_MISUSE, rss_event_append_many(store, "a", "1", &event, 1, RSS_ANY_VERSION, NULL));
        EXPECT(RSS_E_MISUSE, rss_usage_log_many(store, &entry, 1));
        EXPECT(RSS_E_MISUSE, rss_open(NULL, NULL, &options, &other));
    }
    for (i = 0; i < 2; i++) {
        rss_usage_entry entries[2] = {RSS_USAGE_ENTRY_INIT, RSS_USAGE_ENTRY_INIT};
        rss_new_event events[2] = {RSS_NEW_EVENT_INIT, RSS_NEW_EVENT_INIT};

        events[0].event_type = events[1].event_type = "T";
        events[0].data_json = events[1].data_json = "{}";
        events[1].struct_size = i == 0 ? 0 : sizeof *events + 8; /* only the first one was set, or another one */
        EXPECT(RSS_E_INVALID_INPUT, rss_event_append_many(store, "a", "1", events, 2, RSS_ANY_VERSION, NULL));
        CHECK(strcmp(rss_last_error()->field, "events[1].struct_size") == 0);
        entries[1].struct_size = events[1].struct_size;
        EXPECT(RSS_E_INVALID_INPUT, rss_usage_log_many(store, entries, 2));
        CHECK(strcmp(rss_last_error()->field, "entries[1].struct_size") == 0);
        events[1].struct_size = sizeof *events;
        EXPECT(RSS_E_INVALID_INPUT, rss_event_append_many(store, "a", "1", events, (size_t)-1 - i, RSS_ANY_VERSION, NULL));
    }
    EXPECT(RSS_E_MISUSE, rss_event_append(store, "a", "1", NULL, RSS_ANY_VERSION, NULL));
    EXPECT(RSS_E_MISUSE, rss_event_append_many(store, "a", "1", NULL, 3, RSS_ANY_VERSION, NULL));
    EXPECT(RSS_NOTHING, rss_event_append_many(store, "a", "1", NULL, 0, RSS_ANY_VERSION, NULL));
    /* Refused before anything was done. */
    EXPECT(RSS_E_NOT_FOUND, rss_user_get_by_username(store, "x", NULL));
}

/* 3 bytes each: cut between two of them. */
static void cut(rss_store *store)
{
    static char text[30001];
    rss_stream stream = RSS_STREAM_INIT;
    char key[RSS_TOKEN_SIZE];
    size_t length, i;

    for (i = 0; i < 10000; i++)
        memcpy(text + 3 * i, "\xE7\x81\xAB", 3);
    EXPECT(RSS_OK, rss_stream_create(store, 1, "name", text, "", NULL, 1, key, sizeof key, &stream));
    length = strlen(stream.description);
    CHECK(length == (sizeof stream.description - 1) / 3 * 3);
    CHECK(memcmp(stream.description, text, length) == 0);
    CHECK(stream.truncated == 1u << 1); /* the second text */
    CHECK(stream.has_description && stream.has_stream_url && !stream.has_thumbnail_url);
    CHECK(strlen(key) == 43);
    EXPECT(RSS_OK, rss_stream_update(store, 1, RSS_KEEP, "short", RSS_KEEP, RSS_KEEP, RSS_KEEP_FLAG, &stream));
    CHECK(stream.truncated == 0 && strcmp(stream.description, "short") == 0);
    EXPECT(RSS_E_BUFFER, rss_stream_get_key(store, 1, key, 43));
    EXPECT(RSS_OK, rss_stream_get_key(store, 1, key, 44));
    EXPECT(RSS_E_BUFFER, rss_stream_create(store, 1, "other", NULL, NULL, NULL, 1, key, 10, NULL));
    EXPECT(RSS_E_NOT_FOUND, rss_stream_get(store, 2, NULL)); /* not made */
}

/* The longest texts that the tables take come whole. */
static void longest(rss_store *store)
{
    static char text[5000 * 4 + 1], name[261];
    rss_user user = RSS_USER_INIT;
    size_t i;

    for (i = 0; i < 5000; i++)
        memcpy(text + 4 * i, "\xF0\x9F\x8E\xA5", 4);
    memcpy(name, text, 64 * 4);
    text[128 * 4] = '\0';
    EXPECT(RSS_OK, rss_user_create(store, name, "long@example.org", "12345678", text, NULL, &user));
    CHECK(strcmp(user.username, name) == 0 && strcmp(user.display_name, text) == 0 && user.truncated == 0);
}

int main(void)
{
    rss_store *store = open_store(2);

    EXPECT(RSS_OK, rss_user_create(store, "ann", "ann@example.org", "correct horse battery", NULL, NULL, NULL));
    older(store);
    newer(store);
    rewound(store);
    wrong(store);
    cut(store);
    longest(store);
    EXPECT(RSS_OK, rss_close(store, 1000));
    printf("ok\n");
    return 0;
}
