/* What the test programs share: a check that says where it failed. Compiles as C and as C++. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rootstream_store.h"

#define CHECK(condition)                                                                     \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            printf("%s:%d: %s (last error: %s %s)\n", __FILE__, __LINE__, #condition,        \
                   rss_code_name(rss_last_error()->code), rss_last_error()->message);        \
            fflush(stdout);                                                                  \
            _exit(1);                                                                        \
        }                                                                                    \
    } while (0)

#define EXPECT(code, call)                                                                            \
    do {                                                                                              \
        int got_ = (call);                                                                            \
        if (got_ != (code)) {                                                                         \
            printf("%s:%d: %s gave %s, not %s: %s\n", __FILE__, __LINE__, #call, rss_code_name(got_), \
                   #code, rss_last_error()->message);                                                 \
            fflush(stdout);                                                                           \
            _exit(1);                                                                                 \
        }                                                                                             \
    } while (0)

/* A store on the servers of the test, in DATABASE_URL and REDIS_URL. */
__attribute__((unused)) static rss_store *open_store(int64_t pool_size)
{
    rss_options options = RSS_OPTIONS_INIT;
    rss_store *store = NULL;

    options.pool_size = pool_size;
    EXPECT(RSS_OK, rss_open(NULL, NULL, &options, &store));
    CHECK(store != NULL);
    return store;
}

__attribute__((unused)) static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

#endif
