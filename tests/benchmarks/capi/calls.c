/* Synchronous calls from native threads, a window at a time, as the driver asks on standard input:
 *
 *     WHAT THREADS SECONDS
 *
 *     noop       into Python and back
 *     get        rss_user_get from PostgreSQL
 *     libpq      the same query by PQexecPrepared
 *     validate   rss_session_validate from Redis
 *     cache_get  rss_cache_get of the key that it is answered from
 *     hiredis    GET of the same key
 *
 * Each line is answered by one line of JSON. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "timing.h"

#define MOST 16
#define ROOM 400000

/* libpq and hiredis, from wherever the driver says, without their headers. */
typedef struct pg_conn PGconn;
typedef struct pg_result PGresult;
static PGconn *(*connect_db)(const char *);
static PGresult *(*prepare)(PGconn *, const char *, const char *, int, const unsigned *);
static PGresult *(*exec_prepared)(PGconn *, const char *, int, const char *const *, const int *, const int *, int);
static int (*ntuples)(const PGresult *);
static char *(*error_message)(const PGconn *);
static void (*clear)(PGresult *);

typedef struct redisContext redisContext;
static redisContext *(*connect_unix)(const char *);
static void *(*command)(redisContext *, const char *, ...);
static void (*free_reply)(void *);

static const char *query, *url, *redis_socket, *token, *key;
static rss_store *without_redis, *with_redis;
static int64_t user_id, until_ns;

typedef struct {
    pthread_t thread;
    uint32_t *times;
    size_t count;
    PGconn *connection;
    redisContext *context;
    rss_user user;
    rss_session session;
} caller;

static caller callers[MOST];

static void *load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return library;
}

static void load_libpq(const char *path)
{
    void *library = load(path);

    *(void **)&connect_db = dlsym(library, "PQconnectdb");
    *(void **)&prepare = dlsym(library, "PQprepare");
    *(void **)&exec_prepared = dlsym(library, "PQexecPrepared");
    *(void **)&ntuples = dlsym(library, "PQntuples");
    *(void **)&error_message = dlsym(library, "PQerrorMessage");
    *(void **)&clear = dlsym(library, "PQclear");
}

static void load_hiredis(const char *path)
{
    void *library = load(path);

    *(void **)&connect_unix = dlsym(library, "redisConnectUnix");
    *(void **)&command = dlsym(library, "redisCommand");
    *(void **)&free_reply = dlsym(library, "freeReplyObject");
}

static void do_noop(caller *by)
{
    (void)by;
    must(rss_noop(without_redis), "rss_noop");
}

static void get(caller *by)
{
    must(rss_user_get(without_redis, user_id, &by->user), "rss_user_get");
}

static void validate(caller *by)
{
    must(rss_session_validate(with_redis, token, &by->session), "rss_session_validate");
}

static void cache_get(caller *by)
{
    char *value = NULL;
    size_t size = 0;

    (void)by;
    must(rss_cache_get(with_redis, key, &value, &size), "rss_cache_get");
    if (value == NULL) {
        fprintf(stderr, "rss_cache_get: there is no %s\n", key);
        exit(1);
    }
    rss_free(value);
}

static void get_by_hiredis(caller *by)
{
    const int string = 1; /* the type, which is the first field of every version's redisReply */
    int *reply;

    if (by->context == NULL)
        by->context = connect_unix(redis_socket);
    reply = by->context == NULL ? NULL : command(by->context, "GET %s", key);
    if (reply == NULL || *reply != string) {
        fprintf(stderr, "hiredis: no string as answer\n");
        exit(1);
    }
    free_reply(reply);
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

static const struct way {
    const char *name;
    void (*call)(caller *);
} ways[] = {{"noop", do_noop},     {"get", get},             {"libpq", get_by_libpq},
            {"validate", validate}, {"cache_get", cache_get}, {"hiredis", get_by_hiredis}};
static const struct way *way;

static void *run(void *argument)
{
    caller *by = argument;

    while (now_ns() < until_ns && by->count < ROOM) {
        int64_t start = now_ns();

        way->call(by);
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

static const struct way *find(const char *name)
{
    size_t i;

    for (i = 0; i < sizeof ways / sizeof *ways; i++)
        if (strcmp(ways[i].name, name) == 0)
            return &ways[i];
    fprintf(stderr, "no way is called %s\n", name);
    exit(2);
}

int main(int argc, char **argv)
{
    rss_options options = RSS_OPTIONS_INIT;
    char name[16];
    double seconds;
    int threads, i;

    if (argc != 10)
        return 2;
    url = argv[1];
    redis_socket = argv[3];
    load_libpq(argv[4]);
    if (*argv[5] != '\0')
        load_hiredis(argv[5]);
    query = argv[6];
    user_id = atoll(argv[7]);
    token = argv[8];
    key = argv[9];
    options.pool_size = options.pool_min_size = 8;
    must(rss_open(url, "", &options, &without_redis), "rss_open");
    must(rss_open(url, argv[2], &options, &with_redis), "rss_open with Redis");
    for (i = 0; i < MOST; i++) {
        callers[i].times = calloc(ROOM, sizeof *callers[i].times);
        callers[i].user.struct_size = sizeof callers[i].user;
        callers[i].session.struct_size = sizeof callers[i].session;
    }
    while (scanf("%15s %d %lf", name, &threads, &seconds) == 3) {
        way = find(name);
        window(threads, seconds);
    }
    must(rss_close(without_redis, 5000), "rss_close");
    must(rss_close(with_redis, 5000), "rss_close");
    return 0;
}
