/* The fuzz driver around the calls that fuzz.py writes: threads, checks of each answer, and a count at the end. */
#ifndef FUZZ_MAIN_H
#define FUZZ_MAIN_H

static _Thread_local uint64_t made, failed;
static uint64_t by_code[64], all_calls;
static int internal_errors;
static pthread_mutex_t tally = PTHREAD_MUTEX_INITIALIZER;

static void complain(const char *function, int code, const char *what)
{
    fprintf(stderr, "%s gave %d (%s): %s: %s\n", function, code, rss_code_name(code), what, rss_last_error()->message);
    exit(1);
}

/* `most`: the largest number that is no error. */
static void check_code(const char *function, int64_t code, int64_t most)
{
    const rss_error *error = rss_last_error();

    made++;
    if (code >= 0) {
        if (code > most)
            complain(function, (int)code, "neither an error nor a success");
        return;
    }
    failed++;
    if (strcmp(rss_code_name((int)code), "RSS_E_?") == 0)
        complain(function, (int)code, "has no name");
    if (error->code != code)
        complain(function, (int)code, "is not the last error");
    if (error->message[0] == '\0')
        complain(function, (int)code, "has no text");
    __atomic_fetch_add(&by_code[-code], 1, __ATOMIC_RELAXED);
    if (code == RSS_E_INTERNAL) {
        pthread_mutex_lock(&tally);
        if (internal_errors++ < 20)
            fprintf(stderr, "%s: %s\n", function, error->message);
        pthread_mutex_unlock(&tally);
    }
}

typedef struct {
    const char *name;
    void (*call)(const char *name);
    unsigned one_in;
} fuzzed;

static const fuzzed *functions;
static size_t function_count;
static void set_functions(void); /* below the calls */
static uint64_t wanted;
static const char *trace;

static void *fuzz(void *argument)
{
    dice = (uint64_t)(uintptr_t)argument;
    while (made < wanted) {
        const fuzzed *one = &functions[below(function_count)];

        if (one->one_in > 1 && below(one->one_in) != 0)
            continue;
        if (trace != NULL)
            fprintf(stderr, "%s\n", one->name);
        one->call(one->name);
    }
    __atomic_fetch_add(&all_calls, made, __ATOMIC_RELAXED);
    return NULL;
}

/* fuzz CALLS THREADS SEED, on the servers in DATABASE_URL and REDIS_URL. */
int main(int argc, char **argv)
{
    pthread_t threads[16];
    int count, i;

    if (argc != 4)
        return 2;
    set_functions();
    trace = getenv("FUZZ_TRACE");
    count = atoi(argv[2]);
    wanted = strtoull(argv[1], NULL, 10) / (uint64_t)count;
    dice = 88172645463325252u;
    huge_text = malloc(HUGE_TEXT + 1);
    long_text = malloc(4097);
    memset(huge_text, 'h', HUGE_TEXT);
    memset(long_text, 'l', 4096);
    huge_text[HUGE_TEXT] = long_text[4096] = '\0';
    for (i = 0; i < 4; i++)
        check_code("rss_open", rss_open(NULL, NULL, NULL, &stores[i]), 0);
    for (i = 2; i < 4; i++)
        check_code("rss_close", rss_close(stores[i], 5000), 0);
    made = 0;
    for (i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, fuzz,
                       (void *)(uintptr_t)((uint64_t)(i + 1) * 0x9E3779B97F4A7C15u + strtoull(argv[3], NULL, 10)));
    for (i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    end_handles();
    check_code("rss_flush", rss_flush(stores[0], 60000), 0);
    for (i = 0; i < 2; i++)
        check_code("rss_close", rss_close(stores[i], 5000), 0);
    printf("%llu calls, %d internal errors;", (unsigned long long)all_calls, internal_errors);
    for (i = 1; i < 64; i++)
        if (by_code[i] != 0)
            printf(" %s %llu", rss_code_name(-i), (unsigned long long)by_code[i]);
    printf("\n");
    free(huge_text);
    free(long_text);
    return 0;
}

#endif
