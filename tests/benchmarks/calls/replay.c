/* Calls as libpq makes them, with nothing decoded. Arguments: a connection string, and libpq's file.
 *
 * The driver writes to standard input, a header line and then so many bytes:
 *
 *     P SIZE TYPES OID...\n SQL           prepares a statement; they are numbered from 0
 *     C CALLS\n                           measures calls; each is
 *         STEPS\n                         statements in order, each
 *             STATEMENT VALUES\n          and each value
 *                 FORMAT LENGTH\n BYTES   0 text, 1 binary; length -1: null
 *
 * C is answered by one line of JSON. What fails ends the program. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* libpq, from wherever the driver says, without its header. */
typedef struct pg_conn PGconn;
typedef struct pg_result PGresult;
enum { COMMAND_OK = 1, TUPLES_OK = 2 };
static PGconn *(*connect_db)(const char *);
static PGresult *(*prepare)(PGconn *, const char *, const char *, int, const unsigned *);
static PGresult *(*exec_prepared)(PGconn *, const char *, int, const char *const *, const int *, const int *, int);
static int (*result_status)(const PGresult *);
static char *(*error_message)(const PGconn *);
static void (*clear)(PGresult *);

static PGconn *connection;

typedef struct {
    char name[16];
    int count;
    char **values;
    int *lengths, *formats;
} step;

typedef struct {
    int count;
    step *steps;
} call;

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static void *room(size_t count, size_t size)
{
    void *made = calloc(count ? count : 1, size);

    if (made == NULL)
        fail("replay", "no memory");
    return made;
}

/* One header line of `count` numbers. */
static void numbers(long *into, int count)
{
    int i;

    for (i = 0; i < count; i++)
        if (scanf("%ld", &into[i]) != 1)
            fail("replay", "a number is missing");
}

static char *bytes(long size)
{
    char *made = room((size_t)size + 1, 1);

    if (getchar() != '\n' || fread(made, 1, (size_t)size, stdin) != (size_t)size)
        fail("replay", "bytes are missing");
    return made;
}

static void load_libpq(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (library == NULL)
        fail(path, dlerror());
    *(void **)&connect_db = dlsym(library, "PQconnectdb");
    *(void **)&prepare = dlsym(library, "PQprepare");
    *(void **)&exec_prepared = dlsym(library, "PQexecPrepared");
    *(void **)&result_status = dlsym(library, "PQresultStatus");
    *(void **)&error_message = dlsym(library, "PQerrorMessage");
    *(void **)&clear = dlsym(library, "PQclear");
}

static void done(PGresult *result, const char *name)
{
    const int status = result_status(result);

    if (status != COMMAND_OK && status != TUPLES_OK)
        fail(name, error_message(connection));
    clear(result);
}

static void read_statement(int number)
{
    char name[16], *sql;
    long head[2], oid;
    unsigned *types;
    int i;

    numbers(head, 2);
    types = room((size_t)head[1], sizeof *types);
    for (i = 0; i < head[1]; i++) {
        numbers(&oid, 1);
        types[i] = (unsigned)oid;
    }
    sql = bytes(head[0]);
    snprintf(name, sizeof name, "s%d", number);
    done(prepare(connection, name, sql, (int)head[1], types), sql);
    free(sql);
    free(types);
}

static void read_step(step *into)
{
    long head[2];
    int i;

    numbers(head, 2);
    snprintf(into->name, sizeof into->name, "s%ld", head[0]);
    into->count = (int)head[1];
    into->values = room((size_t)head[1], sizeof *into->values);
    into->lengths = room((size_t)head[1], sizeof *into->lengths);
    into->formats = room((size_t)head[1], sizeof *into->formats);
    for (i = 0; i < into->count; i++) {
        numbers(head, 2);
        into->formats[i] = (int)head[0];
        into->lengths[i] = head[1] < 0 ? 0 : (int)head[1];
        if (head[1] >= 0)
            into->values[i] = bytes(head[1]);
    }
}

static void run(const call *one)
{
    int i;

    for (i = 0; i < one->count; i++) {
        const step *now = &one->steps[i];

        done(exec_prepared(connection, now->name, now->count, (const char *const *)now->values, now->lengths,
                           now->formats, 1),
             now->name);
    }
}

static void release(call *one)
{
    int i, j;

    for (i = 0; i < one->count; i++) {
        for (j = 0; j < one->steps[i].count; j++)
            free(one->steps[i].values[j]);
        free(one->steps[i].values);
        free(one->steps[i].lengths);
        free(one->steps[i].formats);
    }
    free(one->steps);
}

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

static void measure(void)
{
    long count, steps;
    int64_t *times, cpu, start;
    double middle;
    call *calls;
    int i, j;

    numbers(&count, 1);
    if (count < 1)
        fail("replay", "no calls");
    calls = room((size_t)count, sizeof *calls);
    times = room((size_t)count, sizeof *times);
    for (i = 0; i < count; i++) {
        numbers(&steps, 1);
        calls[i].count = (int)steps;
        calls[i].steps = room((size_t)steps, sizeof *calls[i].steps);
        for (j = 0; j < steps; j++)
            read_step(&calls[i].steps[j]);
    }
    cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (i = 0; i < count; i++) {
        start = clock_ns(CLOCK_MONOTONIC);
        run(&calls[i]);
        times[i] = clock_ns(CLOCK_MONOTONIC) - start;
    }
    cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
    qsort(times, (size_t)count, sizeof *times, compare);
    middle = ((double)times[(count - 1) / 2] + (double)times[count / 2]) / 2;
    printf("{\"p50_us\": %.3f, \"cpu_us\": %.3f}\n", middle / 1e3, (double)cpu / 1e3 / (double)count);
    fflush(stdout);
    for (i = 0; i < count; i++)
        release(&calls[i]);
    free(calls);
    free(times);
}

int main(int argc, char **argv)
{
    char what[2];
    int statements = 0;

    if (argc != 3)
        return 2;
    load_libpq(argv[2]);
    connection = connect_db(argv[1]);
    while (scanf("%1s", what) == 1) {
        if (what[0] == 'P')
            read_statement(statements++);
        else
            measure();
    }
    return 0;
}
