/* Synchronous calls from native threads, a window at a time, as the driver asks on standard input:
 *
 *     WHAT THREADS SECONDS    noop: into Python and back; get: rss_user_get; libpq: the same query by PQexecPrepared
 *
 * Each line is answered by one line of JSON. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "timing.h"

#define MOST 16
#define ROOM 400000

/* libpq, from wherever the driver says, without its header. */
typedef struct pg_conn PGconn;
typedef struct pg_result PGresult;
static PGconn *(*connect_db)(const char *);
static PGresult *(*prepare)(PGconn *, const char *, const char *, int, const unsigned *);
static PGresult *(*exec_prepared)(PGconn *, const char *, int, const char *const *, const int *, const int *, int);
static int (*ntuples)(const PGresult *);
static char *(*error_message)(const PGconn *);
static void (*clear)(PGresult *);

static const char *query, *url;
static rss_store *store;
static int64_t user_id, until_ns;
static enum { NOOP, GET, LIBPQ } what;

typedef struct {
    pthread_t thread;
    uint32_t *times;
    size_t count;
    PGconn *connection;
} caller;

static caller callers[MOST];

static void load_libpq(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    *(void **)&connect_db = dlsym(library, "PQconnectdb");
    *(void **)&prepare = dlsym(library, "PQprepare");
    *(void **)&exec_prepared = dlsym(library, "PQexecPrepared");
    *(void **)&ntuples = dlsym(library, "PQntuples");
    *(void **)&error_message = dlsym(library, "PQerrorMessage");
    *(void **)&clear = dlsym(library, "PQclear");
}

static void get_by_libpq(caller *by)
{
    uint64_t id = (uint64_t)user_id;
    unsigned char value[8];
    const char *values[1];
    static const int lengths[1] = {8}, formats[1] = {1};
    PGresult *result;
    int i;

    if (by->connection == NULL) {
        by->connection = connect_db(url);
        clear(prepare(by->connection, "get", query, 0, NULL));
    }
    for (i = 7; i >= 0; i--, id >>= 8)
        value[i] = (unsigned char)id;
    values[0] = (const char *)value;
    result = exec_prepared(by->connection, "get", 1, values, lengths, formats, 1);
    if (ntuples(result) != 1) {
        fprintf(stderr, "libpq: %s\n", error_message(by->connection));
        exit(1);
    }
    clear(result);
}

static void *run(void *argument)
{
    caller *by = argument;
    rss_user user = RSS_USER_INIT;

    while (now_ns() < until_ns && by->count < ROOM) {
        const int64_t start = now_ns();

        if (what == NOOP)
            must(rss_noop(store), "rss_noop");
        else if (what == GET)
            must(rss_user_get(store, user_id, &user), "rss_user_get");
        else
            get_by_libpq(by);
        by->times[by->count++] = (uint32_t)(now_ns() - start);
    }
    return NULL;
}

static void window(int threads, double seconds)
{
    static uint32_t times[MOST * ROOM];
    int64_t start = now_ns(), cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    size_t count = 0;
    double wall;
    int i;

    until_ns = start + (int64_t)(seconds * 1e9);
    for (i = 0; i < threads; i++) {
        callers[i].count = 0;
        pthread_create(&callers[i].thread, NULL, run, &callers[i]);
    }
    for (i = 0; i < threads; i++)
        pthread_join(callers[i].thread, NULL);
    wall = (double)(now_ns() - start) / 1e9;
    cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    for (i = 0; i < threads; i++) {
        memcpy(times + count, callers[i].times, callers[i].count * sizeof *times);
        count += callers[i].count;
    }
    qsort(times, count, sizeof *times, compare_times);
    printf("{\"calls\": %zu, \"p50_us\": %.3f, \"p99_us\": %.3f, \"cpu_us\": %.3f, \"per_second\": %.0f}\n", count,
           percentile(times, count, 0.5), percentile(times, count, 0.99), (double)cpu / 1e3 / (double)count,
           (double)count / wall);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    rss_options options = RSS_OPTIONS_INIT;
    char name[16];
    double seconds;
    int threads, i;

    if (argc != 5)
        return 2;
    url = argv[1];
    load_libpq(argv[2]);
    query = argv[3];
    user_id = atoll(argv[4]);
    options.pool_size = options.pool_min_size = 8;
    must(rss_open(url, NULL, &options, &store), "rss_open");
    for (i = 0; i < MOST; i++)
        callers[i].times = calloc(ROOM, sizeof *callers[i].times);
    while (scanf("%15s %d %lf", name, &threads, &seconds) == 3) {
        what = strcmp(name, "noop") == 0 ? NOOP : strcmp(name, "get") == 0 ? GET : LIBPQ;
        window(threads, seconds);
    }
    must(rss_close(store, 5000), "rss_close");
    return 0;
}
