/* The queue as a program sees it. Each test is one argument. */
#include "check.h"

#include <stddef.h>
#include <stdint.h>

/* The allocations of each thread are counted, but where a sanitizer has its own. */
static __thread int allocations;
#ifndef __SANITIZE_ADDRESS__
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);

void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    allocations++;
    return __libc_realloc(memory, size);
}
#endif

static rss_store *open_queue(int64_t bytes, int policy, int64_t wait_ms)
{
    rss_options options = RSS_OPTIONS_INIT;
    rss_store *store = NULL;

    options.queue_bytes = bytes;
    options.queue_policy = policy;
    options.queue_wait_ms = wait_ms;
    EXPECT(RSS_OK, rss_open(NULL, NULL, &options, &store));
    return store;
}

static int put(rss_store *store, const char *aggregate_id, const char *data)
{
    return rss_event_append_async(store, "stream", aggregate_id, "Tick", data, NULL, RSS_NONE);
}

static rss_queue_info info_of(rss_store *store)
{
    rss_queue_info info = RSS_QUEUE_INFO_INIT;

    EXPECT(RSS_OK, rss_queue_stats(store, &info));
    return info;
}

static void basic(void)
{
    rss_store *store = open_queue(0, RSS_QUEUE_FAIL, 0);
    rss_queue_info info;
    rss_event event = RSS_EVENT_INIT;
    rss_rows *rows;
    char own[24]; /* the program may be run again on the same database */
    int i;

    snprintf(own, sizeof own, "%ld", (long)getpid());
    for (i = 0; i < 10; i++)
        EXPECT(RSS_OK, rss_event_append_async(store, "stream", own, "Tick", "{\"n\": 1}", "{\"m\": 2}", 5));
    EXPECT(RSS_OK, put(store, own, "{"));
    EXPECT(RSS_OK, rss_stats_push_async(store, 404, 1, RSS_KEEP_INT, RSS_KEEP_F64, 10));
    EXPECT(RSS_OK, rss_flush(store, 30000));
    info = info_of(store);
    CHECK(info.events_accepted == 11 && info.events_stored == 10 && info.events_rejected == 1);
    CHECK(info.stats_accepted == 1 && info.stats_rejected == 1 && info.events_waiting == 0 && info.stats_waiting == 0);
    CHECK(info.room_bytes == 4 << 20 && info.used_bytes == 0 && !info.is_failing && info.error[0] == '\0');
    EXPECT(RSS_OK, rss_event_read(store, "stream", own, 0, RSS_NONE, 1000, 0, &rows));
    CHECK(rss_rows_count(rows) == 10);
    EXPECT(RSS_OK, rss_event_next(rows, &event));
    CHECK(event.version == 1 && event.user_id == 5 && strcmp(event.metadata_json, "{\"m\":2}") == 0);
    rss_rows_free(rows);
    EXPECT(RSS_OK, rss_close(store, 30000));
    EXPECT(RSS_E_CLOSED, put(store, "7", "{}"));
    EXPECT(RSS_E_CLOSED, rss_stats_push_async(store, 1, 1, 1, 1, 1));
    EXPECT(RSS_E_CLOSED, rss_flush(store, 0));
    EXPECT(RSS_E_CLOSED, rss_queue_stats(store, NULL));
}

static void refuses(void)
{
    static char large[2 * 1024 * 1024], name[1100];
    rss_options options = RSS_OPTIONS_INIT;
    rss_store *store = open_queue(1 << 20, RSS_QUEUE_FAIL, 0), *other;
    rss_queue_info info = RSS_QUEUE_INFO_INIT;

    memset(large, ' ', sizeof large - 1);
    memset(name, 'n', sizeof name - 1);
    EXPECT(RSS_E_INVALID_INPUT, rss_event_append_async(store, NULL, "7", "T", "{}", NULL, RSS_NONE));
    CHECK(strcmp(rss_last_error()->field, "aggregate_type") == 0);
    EXPECT(RSS_E_INVALID_INPUT, rss_event_append_async(store, "s", "", "T", "{}", NULL, RSS_NONE));
    CHECK(strcmp(rss_last_error()->field, "aggregate_id") == 0);
    EXPECT(RSS_E_INVALID_INPUT, rss_event_append_async(store, "s", "7", name, "{}", NULL, RSS_NONE));
    CHECK(strcmp(rss_last_error()->field, "event_type") == 0);
    EXPECT(RSS_E_INVALID_INPUT, rss_event_append_async(store, "s", "7", "T", NULL, NULL, RSS_NONE));
    CHECK(strcmp(rss_last_error()->field, "data") == 0);
    EXPECT(RSS_E_INVALID_INPUT, rss_event_append_async(store, "s", "7", "T", "{}", large, RSS_NONE));
    CHECK(strcmp(rss_last_error()->field, "metadata") == 0);
    large[300000] = '\0'; /* less than 1 MiB, more than a quarter of the queue */
    EXPECT(RSS_E_INVALID_INPUT, rss_event_append_async(store, "s", "7", "T", large, NULL, RSS_NONE));
    EXPECT(RSS_E_INVALID_INPUT, rss_stats_push_async(store, 1, -2, 1, 1, 1));
    EXPECT(RSS_E_INVALID_INPUT, rss_stats_push_async(store, 1, RSS_NONE, 1, 1, 1));
    EXPECT(RSS_E_INVALID_INPUT, rss_stats_push_async(store, 1, 1, -2, 1, 1));
    EXPECT(RSS_E_INVALID_INPUT, rss_stats_push_async(store, 1, 1, 1, 0.0, 1));
    EXPECT(RSS_E_INVALID_INPUT, rss_stats_push_async(store, 1, 1, 1, 0.0 / (rss_version_number() * 0.0), 1));
    EXPECT(RSS_E_INVALID_INPUT, rss_stats_push_async(store, 1, 1, 1, 1, -1));
    EXPECT(RSS_E_MISUSE, put(NULL, "7", "{}"));
    info.struct_size = 0;
    EXPECT(RSS_E_MISUSE, rss_queue_stats(store, &info));
    info.struct_size = offsetof(rss_queue_info, events_stored); /* of an older header */
    info.events_stored = -7;
    EXPECT(RSS_OK, rss_queue_stats(store, &info));
    CHECK(info.events_accepted == 0 && info.events_stored == -7);
    CHECK(info_of(store).events_accepted == 0);
    EXPECT(RSS_OK, rss_close(store, 30000));

    other = open_queue(RSS_OFF, RSS_QUEUE_FAIL, 0);
    EXPECT(RSS_E_SETTINGS, put(other, "7", "{}"));
    EXPECT(RSS_E_SETTINGS, rss_flush(other, 0));
    EXPECT(RSS_OK, rss_close(other, 30000));
    options.queue_bytes = 1;
    EXPECT(RSS_E_SETTINGS, rss_open(NULL, NULL, &options, &other));
    CHECK(other == NULL && strcmp(rss_last_error()->field, "queue_bytes") == 0);
    options.queue_bytes = 0;
    options.queue_policy = 3;
    EXPECT(RSS_E_SETTINGS, rss_open(NULL, NULL, &options, &other));
}

static void policies(void)
{
    rss_store *store = open_queue(16 << 10, RSS_QUEUE_FAIL, 0);
    rss_queue_info info;
    int64_t refused = 0, i;

    for (i = 0; refused == 0; i++)
        refused += put(store, "7", "{}") == RSS_E_QUEUE_FULL;
    CHECK(rss_last_error()->retryable == 1);
    EXPECT(RSS_OK, rss_flush(store, 30000));
    info = info_of(store);
    CHECK(info.events_refused == 1 && info.events_stored == i - 1);
    EXPECT(RSS_OK, rss_close(store, 30000));

    store = open_queue(16 << 10, RSS_QUEUE_WAIT, -1);
    for (i = 0; i < 5000; i++)
        EXPECT(RSS_OK, put(store, "8", "{}"));
    EXPECT(RSS_OK, rss_flush(store, 30000));
    CHECK(info_of(store).events_stored == 5000);
    EXPECT(RSS_OK, rss_close(store, 30000));

    store = open_queue(16 << 10, RSS_QUEUE_DROP_OLDEST, 0);
    for (i = 0; i < 5000; i++)
        EXPECT(RSS_OK, put(store, "9", "{}"));
    EXPECT(RSS_OK, rss_flush(store, 30000));
    info = info_of(store);
    CHECK(info.events_stored + info.events_dropped == 5000 && info.events_accepted == 5000);
    EXPECT(RSS_OK, rss_close(store, 30000));
}

/* No allocation by the thread that queues, be the queue full or not. */
static void allocates_nothing(void)
{
    rss_store *store = open_queue(16 << 10, RSS_QUEUE_FAIL, 0);
    int before, i, failures = 0;

    (void)put(store, "7", "{}");
    (void)put(NULL, "7", "{}");
    before = allocations;
    for (i = 0; i < 20000; i++) {
        failures += put(store, "7", "{\"some\": \"data\"}") != RSS_OK;
        failures += rss_stats_push_async(store, 404, 1, 2, 3, 4) != RSS_OK;
    }
    CHECK(allocations == before);
    CHECK(failures > 0);
    EXPECT(RSS_OK, rss_close(store, 30000));
}

static void forked(void)
{
    rss_store *store = open_queue(0, RSS_QUEUE_WAIT, -1);
    pid_t child;
    int status, i;

    for (i = 0; i < 1000; i++)
        EXPECT(RSS_OK, put(store, "7", "{}"));
    child = fork();
    if (child == 0) {
        const double start = seconds();

        EXPECT(RSS_E_FORKED, put(store, "7", "{}"));
        EXPECT(RSS_E_FORKED, rss_stats_push_async(store, 1, 1, 1, 1, 1));
        EXPECT(RSS_E_FORKED, rss_flush(store, -1));
        EXPECT(RSS_E_FORKED, rss_queue_stats(store, NULL));
        EXPECT(RSS_E_FORKED, rss_close(store, -1));
        CHECK(seconds() - start < 1);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    EXPECT(RSS_OK, rss_flush(store, 30000));
    CHECK(info_of(store).events_stored == 1000);
    EXPECT(RSS_OK, rss_close(store, 30000));
}

static rss_store *shared;
static int64_t accepted[8];

static void *until_closed(void *argument)
{
    const int number = (int)(intptr_t)argument;
    char aggregate_id[8];
    int code;

    snprintf(aggregate_id, sizeof aggregate_id, "%d", number);
    while ((code = put(shared, aggregate_id, "{}")) == RSS_OK)
        accepted[number]++;
    EXPECT(RSS_E_CLOSED, code);
    return NULL;
}

/* What was taken in before the close is stored, and nothing else: the caller counts. */
static void closes_in_flight(void)
{
    static const struct timespec moment = {0, 200000000};
    pthread_t threads[8];
    int64_t sum = 0;
    int i;

    shared = open_queue(1 << 20, RSS_QUEUE_WAIT, -1);
    for (i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, until_closed, (void *)(intptr_t)i);
    nanosleep(&moment, NULL);
    EXPECT(RSS_OK, rss_close(shared, 60000));
    for (i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        sum += accepted[i];
    }
    printf("%lld\n", (long long)sum);
}

static void *for_ever(void *argument)
{
    (void)argument;
    for (;;)
        if (put(shared, "7", "{}") != RSS_OK)
            return NULL;
}

static void exits_without_close(void)
{
    static const struct timespec moment = {0, 50000000};
    pthread_t thread;
    int i;

    shared = open_queue(0, RSS_QUEUE_WAIT, -1);
    for (i = 0; i < 3; i++)
        pthread_create(&thread, NULL, for_ever, NULL);
    nanosleep(&moment, NULL);
    printf("ok\n");
    exit(0);
}

/* A wait that no clock can count is one without limit. */
static void waits_for_ages(void)
{
    static const int64_t ages[] = {INT64_C(1) << 61, INT64_MAX, INT64_MAX / 1000};
    size_t i;
    int n;

    for (i = 0; i < sizeof ages / sizeof *ages; i++) {
        rss_store *store = open_queue(1 << 20, RSS_QUEUE_WAIT, ages[i]);

        for (n = 0; n < 20000; n++) /* more than there is room for */
            EXPECT(RSS_OK, put(store, "7", "{}"));
        EXPECT(RSS_OK, rss_flush(store, ages[i]));
        EXPECT(RSS_OK, put(store, "7", "{}"));
        EXPECT(RSS_OK, rss_close(store, ages[i]));
    }
}

static void *flush_without_limit(void *store)
{
    EXPECT(RSS_E_CLOSED, rss_flush(store, -1));
    return NULL;
}

/* The server stops answering when the caller of this program has read "ready" and writes a line. */
static void frozen(void)
{
    rss_store *store = open_queue(0, RSS_QUEUE_FAIL, 0);
    pthread_t flusher;
    static const struct timespec moment = {0, 100000000};
    double start;
    char line[8];

    EXPECT(RSS_OK, put(store, "7", "{}"));
    EXPECT(RSS_OK, rss_flush(store, 30000));
    printf("ready\n");
    fflush(stdout);
    CHECK(fgets(line, sizeof line, stdin) != NULL);
    EXPECT(RSS_OK, put(store, "7", "{}"));
    EXPECT(RSS_OK, rss_stats_push_async(store, 404, 1, 2, 3, 4));
    start = seconds();
    EXPECT(RSS_E_TIMEOUT, rss_flush(store, 300));
    CHECK(seconds() - start < 1);
    pthread_create(&flusher, NULL, flush_without_limit, store);
    nanosleep(&moment, NULL);
    start = seconds();
    EXPECT(RSS_E_TIMEOUT, rss_close(store, 500));
    CHECK(seconds() - start < 5);
    CHECK(strstr(rss_last_error()->message, "1 events and 1 reports") != NULL);
    pthread_join(flusher, NULL);
    CHECK(seconds() - start < 5);
    EXPECT(RSS_E_CLOSED, put(store, "7", "{}"));
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {
        {"basic", basic}, {"refuses", refuses}, {"policies", policies}, {"allocates_nothing", allocates_nothing},
        {"forked", forked}, {"closes_in_flight", closes_in_flight}, {"exits_without_close", exits_without_close},
        {"frozen", frozen}, {"waits_for_ages", waits_for_ages},
    };
    size_t i;

    (void)open_store; /* another program's way */
    if (argc == 2)
        for (i = 0; i < sizeof tests / sizeof *tests; i++)
            if (strcmp(tests[i].name, argv[1]) == 0) {
                tests[i].run();
                printf("ok\n");
                return 0;
            }
    return 2;
}
