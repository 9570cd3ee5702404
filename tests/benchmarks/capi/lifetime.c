/* What a process that has the library costs over time.
 *
 *     lifetime start             how long rss_init and rss_open take
 *     lifetime calls COUNT       twice so many calls, of which one in a hundred asks PostgreSQL
 *     lifetime threads COUNT     twice so many threads, one after the other, with two calls each
 *
 * The first time Python takes what it needs once, such as another piece of 1 MiB; the second time shows what grows.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "timing.h"

static rss_store *store;
static int64_t user_id;

static long resident_kib(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    long all = 0, resident = 0;

    if (file != NULL) {
        if (fscanf(file, "%ld %ld", &all, &resident) != 2)
            resident = 0;
        fclose(file);
    }
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void some_calls(int64_t count)
{
    rss_user user = RSS_USER_INIT;
    int64_t i;

    for (i = 0; i < count; i++) {
        if (i % 100 == 0)
            must(rss_user_get(store, user_id, &user), "rss_user_get");
        else if (i % 100 == 1)
            must(rss_event_append_async(store, "stream", "1", "Tick", "{}", NULL, RSS_NONE), "rss_event_append_async");
        else if (i % 100 == 2)
            (void)rss_user_get(store, -1, &user); /* an error each time */
        else
            must(rss_noop(store), "rss_noop");
        if (i % 5000 == 0)
            must(rss_flush(store, 30000), "rss_flush");
    }
}

static void *short_life(void *unused)
{
    rss_user user = RSS_USER_INIT;

    (void)unused;
    must(rss_noop(store), "rss_noop");
    must(rss_user_get(store, user_id, &user), "rss_user_get");
    return NULL;
}

static void some_threads(int64_t count)
{
    int64_t i;

    for (i = 0; i < count; i++) {
        pthread_t thread;

        pthread_create(&thread, NULL, short_life, NULL);
        pthread_join(thread, NULL);
    }
}

int main(int argc, char **argv)
{
    const int64_t start = now_ns();
    int64_t count, init, part;
    long first, half, last;

    if (argc < 2)
        return 2;
    must(rss_init(NULL), "rss_init");
    init = now_ns() - start;
    must(rss_open(NULL, NULL, NULL, &store), "rss_open");
    if (strcmp(argv[1], "start") == 0) {
        printf("{\"init_ms\": %.1f, \"open_ms\": %.1f, \"resident_kib\": %ld}\n", (double)init / 1e6,
               (double)(now_ns() - start) / 1e6, resident_kib());
        must(rss_close(store, 5000), "rss_close");
        return 0;
    }
    count = atoll(argv[2]);
    user_id = atoll(argv[3]);
    part = count / 10;
    if (strcmp(argv[1], "calls") == 0)
        some_calls(part);
    else
        some_threads(part);
    first = resident_kib();
    if (strcmp(argv[1], "calls") == 0)
        some_calls(count);
    else
        some_threads(count);
    half = resident_kib();
    if (strcmp(argv[1], "calls") == 0)
        some_calls(count);
    else
        some_threads(count);
    last = resident_kib();
    printf("{\"first_kib\": %ld, \"half_kib\": %ld, \"last_kib\": %ld, \"seconds\": %.1f}\n", first, half, last,
           (double)(now_ns() - start) / 1e9);
    must(rss_close(store, 5000), "rss_close");
    return 0;
}
