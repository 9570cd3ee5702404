/* Threads of the host in the library. Each test is one argument. */
#include "check.h"
#include "rootstream_legacy.h"

#define MANY 200

static rss_store *shared;
static pthread_barrier_t start_line;
static int stop;

static void *read_and_list(void *argument)
{
    int i;

    (void)argument;
    pthread_barrier_wait(&start_line);
    for (i = 0; i < 20; i++) {
        rss_user user = RSS_USER_INIT;
        rss_rows *rows;

        EXPECT(RSS_OK, rss_user_get(shared, 1, &user));
        CHECK(strcmp(user.username, "ann") == 0);
        EXPECT(RSS_E_NOT_FOUND, rss_user_get(shared, 1000 + i, &user));
        CHECK(rss_last_error()->code == RSS_E_NOT_FOUND);
        EXPECT(RSS_OK, rss_user_list(shared, 0, 10, &rows));
        EXPECT(RSS_OK, rss_user_next(rows, &user));
        EXPECT(RSS_OK, rss_rows_free(rows));
    }
    return NULL;
}

static void make_ann(void)
{
    EXPECT(RSS_OK, rss_user_create(shared, "ann", "ann@example.org", "correct horse battery", NULL, NULL, NULL));
}

static void many_threads(void)
{
    pthread_t threads[MANY];
    pthread_attr_t attributes;
    int i;

    shared = open_store(8);
    make_ann();
    pthread_barrier_init(&start_line, NULL, MANY);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 128 * 1024);
    for (i = 0; i < MANY; i++)
        CHECK(pthread_create(&threads[i], &attributes, read_and_list, NULL) == 0);
    for (i = 0; i < MANY; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    EXPECT(RSS_OK, rss_close(shared, 2000));
}

static long resident_kib(void)
{
    long pages = 0, all;
    FILE *file = fopen("/proc/self/statm", "r");

    CHECK(file != NULL && fscanf(file, "%ld %ld", &all, &pages) == 2);
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void *one_call(void *argument)
{
    (void)argument;
    EXPECT(RSS_OK, rss_user_get(shared, 1, NULL));
    return NULL;
}

/* A thread leaves nothing behind when it ends. */
static void short_threads(void)
{
    long before = 0;
    int i;

    shared = open_store(2);
    make_ann();
    for (i = 0; i < 2500; i++) {
        pthread_t thread;

        if (i == 500)
            before = resident_kib();
        CHECK(pthread_create(&thread, NULL, one_call, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    printf("%ld KiB more\n", resident_kib() - before);
    CHECK(resident_kib() - before < 1024);
    EXPECT(RSS_OK, rss_close(shared, 2000));
}

static void *race(void *argument)
{
    rss_store *store;

    (void)argument;
    pthread_barrier_wait(&start_line);
    EXPECT(RSS_OK, rss_init(NULL));
    EXPECT(RSS_OK, rss_open(NULL, NULL, NULL, &store));
    EXPECT(RSS_E_NOT_FOUND, rss_user_get(store, 1, NULL));
    EXPECT(RSS_OK, rss_close(store, 2000));
    return NULL;
}

/* All start the library at once, none of them the main thread; then they are gone. */
static void starts_race(void)
{
    pthread_t threads[16];
    int i;

    pthread_barrier_init(&start_line, NULL, 16);
    for (i = 0; i < 16; i++)
        CHECK(pthread_create(&threads[i], NULL, race, NULL) == 0);
    for (i = 0; i < 16; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    shared = open_store(2);
    make_ann();
    EXPECT(RSS_OK, rss_close(shared, 2000));
}

static void *sleep_in_server(void *argument)
{
    char *rows = NULL;

    (void)argument;
    if (rss_query_json(shared, "SELECT true AS slept FROM pg_sleep(0.5)", NULL, &rows, NULL) == RSS_OK)
        __atomic_add_fetch(&stop, strcmp(rows, "[{\"slept\":true}]") == 0, __ATOMIC_RELAXED);
    rss_free(rows);
    pthread_testcancel();
    return NULL;
}

static void *hammer(void *argument)
{
    (void)argument;
    for (;;) {
        rss_user_get(shared, 1, NULL);
        pthread_testcancel();
    }
    return NULL;
}

/* A cancelled thread ends its call first, and loses nothing that others need. */
static void cancelled_threads(void)
{
    pthread_t threads[16];
    void *end;
    int round, i;

    shared = open_store(4);
    make_ann();
    for (i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, sleep_in_server, NULL) == 0);
    usleep(100000);
    for (i = 0; i < 3; i++)
        CHECK(pthread_cancel(threads[i]) == 0);
    for (i = 0; i < 3; i++) {
        CHECK(pthread_join(threads[i], &end) == 0);
        CHECK(end == PTHREAD_CANCELED);
    }
    CHECK(stop == 3); /* each had its answer */
    for (round = 0; round < 5; round++) {
        for (i = 0; i < 16; i++)
            CHECK(pthread_create(&threads[i], NULL, hammer, NULL) == 0);
        usleep(30000);
        for (i = 0; i < 16; i++)
            CHECK(pthread_cancel(threads[i]) == 0);
        for (i = 0; i < 16; i++)
            CHECK(pthread_join(threads[i], &end) == 0);
    }
    EXPECT(RSS_OK, rss_user_get(shared, 1, NULL));
    EXPECT(RSS_OK, rss_close(shared, 2000));
}

static void *call_until_closed(void *argument)
{
    int code;

    do {
        code = rss_user_get(shared, 1, NULL);
        CHECK(code == RSS_OK || code == RSS_E_CLOSED);
    } while (code == RSS_OK);
    (void)argument;
    return NULL;
}

/* Calls in flight end well or with RSS_E_CLOSED, and one thread alone closes. */
static void closed_in_flight(void)
{
    pthread_t threads[8];
    int round, i;

    for (round = 0; round < 20; round++) {
        shared = open_store(2);
        if (round == 0)
            make_ann();
        for (i = 0; i < 8; i++)
            CHECK(pthread_create(&threads[i], NULL, call_until_closed, NULL) == 0);
        usleep(1000 * (unsigned)round);
        EXPECT(RSS_OK, rss_close(shared, 5000));
        EXPECT(RSS_E_CLOSED, rss_close(shared, 5000));
        for (i = 0; i < 8; i++)
            CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

/* A call that does not end holds the close up for as long as was said, and no longer. */
static void closed_while_stuck(void)
{
    pthread_t thread;
    double start;

    shared = open_store(2);
    CHECK(pthread_create(&thread, NULL, sleep_in_server, NULL) == 0);
    usleep(100000);
    start = seconds();
    EXPECT(RSS_E_TIMEOUT, rss_close(shared, 100));
    CHECK(seconds() - start < 0.4);
    EXPECT(RSS_E_CLOSED, rss_user_get(shared, 1, NULL));
    EXPECT(RSS_E_CLOSED, rss_close(shared, 100));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(stop == 1); /* the call itself was not cut off */
    EXPECT(RSS_E_CLOSED, rss_user_get(shared, 1, NULL));
}

static int changed;

static void *change_ann(void *argument)
{
    EXPECT(RSS_OK, rss_user_update_profile(shared, 1, argument, NULL, NULL));
    __atomic_add_fetch(&changed, 1, __ATOMIC_RELAXED);
    pthread_testcancel();
    return NULL;
}

static void *keep_ann_locked(void *unused)
{
    static const char sql[] = "WITH taken AS (UPDATE users SET is_active = true RETURNING id)"
                              " SELECT pg_advisory_xact_lock(42) FROM taken";

    EXPECT(RSS_OK, rss_query_json(shared, sql, NULL, NULL, NULL));
    return unused;
}

static void *read_often(void *unused)
{
    rss_user user = RSS_USER_INIT;
    int i;

    for (i = 0; i < 200; i++)
        EXPECT(RSS_OK, rss_user_get(shared, 1, &user));
    return unused;
}

static void wait_for(DatabaseManager *manager, const char *sql, const char *expected)
{
    const double end = seconds() + 20;
    int is_there = 0;

    while (!is_there) {
        char *rows = NULL;

        EXPECT(0, database_manager_query(manager, sql, &rows));
        is_there = strcmp(rows, expected) == 0;
        free(rows);
        CHECK(is_there || seconds() < end);
    }
}

/* Calls that wait for a lock hold up no others, whether they are cancelled or the store is closed meanwhile. */
static void slow_and_fast(void)
{
    static const char waiting[] = "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                                  " AND datname = current_database()";
    pthread_t slow[4], fast[8], keeper;
    DatabaseManager *manager;
    void *end;
    int i;

    shared = open_store(16);
    make_ann();
    EXPECT(0, database_manager_init(&manager, getenv("DATABASE_URL"), 1));
    CHECK(database_manager_execute(manager, "SELECT pg_advisory_lock(42)") == 1);
    CHECK(pthread_create(&keeper, NULL, keep_ann_locked, NULL) == 0);
    wait_for(manager, waiting, "[{\"n\":1}]");
    for (i = 0; i < 4; i++)
        CHECK(pthread_create(&slow[i], NULL, change_ann, "Ann") == 0);
    wait_for(manager, waiting, "[{\"n\":5}]");
    CHECK(pthread_cancel(slow[0]) == 0);
    for (i = 0; i < 8; i++)
        CHECK(pthread_create(&fast[i], NULL, read_often, NULL) == 0);
    for (i = 0; i < 8; i++)
        CHECK(pthread_join(fast[i], NULL) == 0);
    EXPECT(RSS_E_TIMEOUT, rss_close(shared, 100));
    CHECK(changed == 0);
    CHECK(database_manager_execute(manager, "SELECT pg_advisory_unlock(42)") == 1);
    for (i = 0; i < 4; i++) {
        CHECK(pthread_join(slow[i], &end) == 0);
        CHECK((end == PTHREAD_CANCELED) == (i == 0));
    }
    CHECK(changed == 4); /* also the one that was cancelled */
    CHECK(pthread_join(keeper, NULL) == 0);
    database_manager_cleanup(manager);
}

static void stale_handles(void)
{
    rss_store *store = open_store(1), *again;
    rss_user user = RSS_USER_INIT;
    rss_rows *rows, *others;
    char *text = NULL;
    size_t bits;

    EXPECT(RSS_OK, rss_user_list(store, 0, 10, &rows));
    EXPECT(RSS_E_MISUSE, rss_user_get((rss_store *)(void *)rows, 1, &user));
    EXPECT(RSS_E_MISUSE, rss_user_next((rss_rows *)(void *)store, &user));
    EXPECT(RSS_E_MISUSE, rss_session_next(rows, NULL));
    EXPECT(RSS_NOTHING, rss_user_next(rows, &user));
    EXPECT(RSS_OK, rss_rows_free(rows));
    EXPECT(RSS_OK, rss_user_list(store, 0, 10, &others)); /* in the same place */
    EXPECT(RSS_E_CLOSED, rss_user_next(rows, &user));
    EXPECT(RSS_E_CLOSED, rss_rows_free(rows));
    CHECK(rss_rows_count(rows) == -1 && rss_last_error()->code == RSS_E_CLOSED);
    EXPECT(RSS_OK, rss_rows_free(others));
    EXPECT(RSS_OK, rss_close(store, 1000));
    again = open_store(1);
    EXPECT(RSS_E_CLOSED, rss_user_get(store, 1, &user));
    EXPECT(RSS_E_CLOSED, rss_close(store, 1000));
    EXPECT(RSS_E_CLOSED, rss_get_health_json(store, &text));
    CHECK(text == NULL);
    for (bits = 0; bits < 6; bits++) {
        static const rss_session no_session = {0};
        static const rss_ranked_stream no_stream = {0};
        rss_subscription *subscription = (rss_subscription *)(void *)&user;

        rows = (rss_rows *)(void *)&user;
        switch (bits) {
        case 0: EXPECT(RSS_E_CLOSED, rss_user_list(store, 0, 10, &rows)); break;
        case 1: EXPECT(RSS_E_MISUSE, rss_event_read(NULL, "a", "b", 0, RSS_NONE, 10, 0, &rows)); break;
        case 2: EXPECT(RSS_E_INVALID_INPUT, rss_user_list(again, 0, -1, &rows)); break;
        case 3: EXPECT(RSS_E_MISUSE, rss_session_list_active(again, 1, &no_session, 10, &rows)); break;
        case 4: EXPECT(RSS_E_MISUSE, rss_viewer_top(again, 10, &no_stream, &rows)); break;
        default: EXPECT(RSS_E_CLOSED, rss_subscribe(store, "x", 0, &subscription)); rows = NULL; break;
        }
        CHECK(rows == NULL && (subscription == NULL || bits < 5));
    }
    for (bits = 0; bits < 200; bits++) {
        rss_store *made_up = (rss_store *)((size_t)again + (bits + 1) * 16);

        CHECK(rss_user_get(made_up, 1, &user) == RSS_E_MISUSE || rss_last_error()->code == RSS_E_CLOSED);
        made_up = (rss_store *)(bits << (bits % 60));
        CHECK(rss_user_get(made_up, 1, &user) == RSS_E_MISUSE || rss_last_error()->code == RSS_E_CLOSED);
    }
    /* The number of a store that says it is another kind of handle. */
    for (bits = 0; bits < 16; bits++) {
        rss_rows *other = (rss_rows *)(((size_t)again & ~(size_t)15) | bits);

        if ((void *)other != (void *)again)
            EXPECT(RSS_E_MISUSE, rss_rows_free(other));
    }
    EXPECT(RSS_E_NOT_FOUND, rss_user_get(again, 1, &user));
    EXPECT(RSS_E_MISUSE, rss_user_get((rss_store *)(void *)&user, 1, &user));
    EXPECT(RSS_E_MISUSE, rss_user_get(NULL, 1, &user));
    EXPECT(RSS_E_MISUSE, rss_open(NULL, NULL, NULL, NULL));
    EXPECT(RSS_OK, rss_close(NULL, 0));
    EXPECT(RSS_OK, rss_rows_free(NULL));
    EXPECT(RSS_OK, rss_close(again, 1000));
}

int main(int count, char **arguments)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {{"many_threads", many_threads},           {"short_threads", short_threads},
                 {"starts_race", starts_race},             {"cancelled_threads", cancelled_threads},
                 {"closed_in_flight", closed_in_flight},   {"closed_while_stuck", closed_while_stuck},
                 {"slow_and_fast", slow_and_fast},         {"stale_handles", stale_handles}};
    size_t i;

    for (i = 0; count > 1 && i < sizeof tests / sizeof *tests; i++)
        if (strcmp(arguments[1], tests[i].name) == 0) {
            tests[i].run();
            printf("ok\n");
            return 0;
        }
    return 2;
}
