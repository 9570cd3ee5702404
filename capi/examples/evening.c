/* An evening with plain calls: sign up, go on air, append events, read back. Runs as it is:
 *
 *     cc $(python -m rootstream_store.capi --cflags) evening.c $(python -m rootstream_store.capi --libs) && ./a.out
 *
 * On servers of yours: rss_open("postgresql://app@db/rootstream", "redis://cache/0", NULL, &store).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <rootstream_store.h>

/* What went wrong, and whether trying again can help. */
static void need(int code, const char *what)
{
    const rss_error *error = rss_last_error();

    if (code >= 0)
        return;
    fprintf(stderr, "%s: %s: %s%s\n", what, rss_code_name(code), error->message,
            error->retryable ? " (try again)" : "");
    exit(1);
}

int main(void)
{
    char key[RSS_TOKEN_SIZE];
    rss_store *store;
    rss_user ann = RSS_USER_INIT;
    rss_stream stream = RSS_STREAM_INIT;
    rss_stream_session session = RSS_STREAM_SESSION_INIT;
    rss_new_event started = RSS_NEW_EVENT_INIT;
    rss_event event = RSS_EVENT_INIT;
    rss_rows *rows;
    int code;

    need(rss_open_embedded(NULL, NULL, &store), "opening");
    need(rss_user_create(store, "ann", "ann@example.org", "correct horse battery", "Ann", NULL, &ann), "signing up");
    need(rss_stream_create(store, ann.id, "Chess at midnight", NULL, NULL, NULL, 1, key, sizeof key, &stream),
         "making a stream");

    need(rss_stream_start(store, stream.id, 6000, "1920x1080", 60.0, "h264", 0, NULL, NULL), "going on air");
    started.event_type = "StreamStarted";
    started.data_json = "{\"quality\": \"1080p60\"}";
    started.user_id = ann.id;
    need(rss_event_append(store, "stream", "1", &started, RSS_NO_STREAM, NULL), "appending");
    need(rss_stream_update_stats(store, stream.id, 150, RSS_KEEP_INT, RSS_KEEP, RSS_KEEP_F64, RSS_KEEP, 750000, NULL),
         "reporting");
    need(rss_stream_stop(store, stream.id, &session), "going off air");

    printf("%s: %" PRId64 " viewers at most, %" PRId64 " bytes\n", stream.name, session.peak_viewers,
           session.total_bytes_sent);
    if (rss_stream_stop(store, stream.id, NULL) == RSS_E_CONFLICT)
        printf("%s\n", rss_last_error()->message);

    need(rss_event_read(store, "stream", "1", 0, RSS_NONE, 100, 0, &rows), "reading");
    while ((code = rss_event_next(rows, &event)) == RSS_OK)
        printf("%" PRId64 " %s %s by user %" PRId64 "\n", event.version, event.event_type, event.data_json,
               event.user_id);
    need(code, "reading on");
    rss_rows_free(rows);
    need(rss_close(store, 5000), "closing");
    return 0;
}
