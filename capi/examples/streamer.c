/* A streaming server in small: an encoder in a thread that must not wait, and a control thread that may.
 *
 *     cc streamer.c $(pkg-config --cflags --libs rootstream_store) -pthread -o streamer
 *     ./streamer [SECONDS]
 *
 * Works on the servers that DATABASE_URL and REDIS_URL name, else on its own. In the end it reads everything back and
 * compares. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rootstream_store.h"

#define FPS 60
#define MILLISECOND 1000000L

static rss_store *store;
static int64_t stream_id;
static char aggregate_id[24];
static int frames_wanted;

/* What the encoder did, for the comparison; read after its end. */
static int64_t bytes_sent, frames, viewers, keyframes, refused;
static double longest_us, sum_us;

/* What the control thread did. */
static int64_t looks, notes;
static volatile int is_over;

static void must(int code, const char *what)
{
    if (code >= 0)
        return;
    fprintf(stderr, "%s: %s: %s\n", what, rss_code_name(code), rss_last_error()->message);
    exit(1);
}

static double now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* Called once a frame by a thread with a deadline of 16 ms: both calls copy and return. */
static void report_frame(void)
{
    const int64_t size = 12000 + frames % 7 * 500;
    const double start = now_us();
    double took;
    char data[64];

    if (rss_stats_push_async(store, stream_id, viewers, 6000, FPS, size) == RSS_OK)
        bytes_sent += size;
    else
        refused++;
    if (frames % 30 == 0) {
        snprintf(data, sizeof data, "{\"frame\": %" PRId64 "}", frames);
        if (rss_event_append_async(store, "stream", aggregate_id, "KeyFrame", data, NULL, RSS_NONE) == RSS_OK)
            keyframes++;
        else
            refused++;
    }
    took = now_us() - start;
    sum_us += took;
    if (took > longest_us)
        longest_us = took;
}

static void *encode(void *unused)
{
    struct timespec next;

    (void)unused;
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (frames = 0; frames < frames_wanted; frames++) {
        viewers = 100 + frames % 50;
        report_frame();
        next.tv_nsec += 1000 * MILLISECOND / FPS;
        if (next.tv_nsec >= 1000 * MILLISECOND) {
            next.tv_sec++;
            next.tv_nsec -= 1000 * MILLISECOND;
        }
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
    return NULL;
}

/* Synchronous calls beside it: they wait for the server, and for Python's lock, and the encoder does not notice. */
static void *control(void *unused)
{
    static const struct timespec pause = {0, 100 * MILLISECOND};
    rss_stream stream = RSS_STREAM_INIT;
    rss_new_event note = RSS_NEW_EVENT_INIT;

    (void)unused;
    note.event_type = "ControlNote";
    note.data_json = "{\"all\": \"well\"}";
    while (!is_over) {
        must(rss_stream_get(store, stream_id, &stream), "rss_stream_get");
        looks++;
        must(rss_event_append(store, "stream", aggregate_id, &note, RSS_ANY_VERSION, NULL), "rss_event_append");
        notes++;
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void begin(void)
{
    char username[32], email[64];
    rss_user user = RSS_USER_INIT;
    rss_stream stream = RSS_STREAM_INIT;

    snprintf(username, sizeof username, "streamer%ld", (long)time(NULL));
    snprintf(email, sizeof email, "%s@example.org", username);
    must(rss_user_create(store, username, email, "correct horse battery", NULL, NULL, &user), "rss_user_create");
    must(rss_stream_create(store, user.id, "From C", NULL, NULL, NULL, 1, NULL, 0, &stream), "rss_stream_create");
    must(rss_stream_start(store, stream.id, 6000, "1920x1080", FPS, "h264", 0, NULL, NULL), "rss_stream_start");
    stream_id = stream.id;
    snprintf(aggregate_id, sizeof aggregate_id, "%" PRId64, stream_id);
}

static int compare(const char *what, int64_t found, int64_t wanted)
{
    printf("%-4s %s: %" PRId64 "\n", found == wanted ? "ok" : "BAD", what, found);
    if (found != wanted)
        printf("     not %" PRId64 "\n", wanted);
    return found != wanted;
}

/* Counts the events of the stream, and those that are not in the order of their frames. */
static void read_events(int64_t *keys, int64_t *others, int64_t *out_of_order)
{
    rss_event event = RSS_EVENT_INIT;
    int64_t version = 0, next_frame = 0;
    rss_rows *rows;
    int64_t found;

    do {
        must(rss_event_read(store, "stream", aggregate_id, version, RSS_NONE, 1000, 0, &rows), "rss_event_read");
        for (found = 0; rss_event_next(rows, &event) == RSS_OK; found++) {
            *out_of_order += event.version != ++version;
            if (strcmp(event.event_type, "KeyFrame") == 0) {
                *out_of_order += strtoll(strpbrk(event.data_json, "0123456789"), NULL, 10) != next_frame;
                next_frame += 30;
                ++*keys;
            } else
                ++*others;
        }
        rss_rows_free(rows);
    } while (found == 1000);
}

static int check(void)
{
    rss_stream stream = RSS_STREAM_INIT;
    rss_stream_session session = RSS_STREAM_SESSION_INIT;
    rss_queue_info queue = RSS_QUEUE_INFO_INIT;
    int64_t keys = 0, others = 0, out_of_order = 0;
    int bad = 0;

    must(rss_flush(store, 10000), "rss_flush");
    must(rss_stream_get(store, stream_id, &stream), "rss_stream_get");
    must(rss_stream_stop(store, stream_id, &session), "rss_stream_stop");
    must(rss_queue_stats(store, &queue), "rss_queue_stats");
    read_events(&keys, &others, &out_of_order);
    printf("%" PRId64 " frames at %d Hz, %" PRId64 " calls of the control thread\n", frames, FPS, looks + notes);
    printf("the encoder spent %.1f us a frame in the library, at most %.0f us\n", sum_us / (double)frames, longest_us);
    printf("%" PRId64 " reports and %" PRId64 " events in %" PRId64 " transactions\n\n", queue.stats_stored,
           queue.events_stored, queue.batches);
    bad += compare("bytes sent, in the stream session", session.total_bytes_sent, bytes_sent);
    bad += compare("viewers at the last report", stream.viewer_count, viewers);
    bad += compare("most viewers", session.peak_viewers, frames > 49 ? 149 : 100 + frames - 1);
    bad += compare("key frames in the event log", keys, keyframes);
    bad += compare("notes of the control thread", others, notes);
    bad += compare("events out of order", out_of_order, 0);
    bad += compare("calls that the queue refused", refused, 0);
    bad += compare("reports and events left in the queue", queue.events_waiting + queue.stats_waiting, 0);
    return bad;
}

int main(int argc, char **argv)
{
    pthread_t encoder, controller;
    const double start = now_us();
    int bad;

    frames_wanted = FPS * (argc > 1 ? atoi(argv[1]) : 4);
    if (frames_wanted <= 0) {
        fprintf(stderr, "usage: streamer [SECONDS]\n");
        return 2;
    }
    if (getenv("DATABASE_URL") != NULL)
        must(rss_open(NULL, NULL, NULL, &store), "rss_open");
    else
        must(rss_open_embedded(NULL, NULL, &store), "rss_open_embedded");
    printf("librootstream_store %s, open after %.2f s\n", rss_version(), (now_us() - start) / 1e6);
    begin();
    pthread_create(&controller, NULL, control, NULL);
    pthread_create(&encoder, NULL, encode, NULL);
    pthread_join(encoder, NULL);
    is_over = 1;
    pthread_join(controller, NULL);
    bad = check();
    must(rss_close(store, 5000), "rss_close");
    return bad != 0;
}
