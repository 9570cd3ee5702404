/* What surrounds every call: no cancellation point inside, no SIGPIPE for the host, no use after a fork. */
#include "core.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

static volatile sig_atomic_t forked;
static pthread_once_t watch_once = PTHREAD_ONCE_INIT;

enum { PIPE_LEFT_ALONE, PIPE_BLOCKED_BY_US, PIPE_BLOCKED_BEFORE };

static void note_fork(void)
{
    forked = rssi_has_begun();
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, note_fork);
}

void rssi_watch_forks(void)
{
    pthread_once(&watch_once, watch_forks);
}

int rssi_is_forked(void)
{
    return forked;
}

static int is_sigpipe_pending(void)
{
    sigset_t pending;

    return sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
}

/* Python sends without MSG_NOSIGNAL: a server that closed its end would kill the host. The signal is blocked in
 * this thread and, where one came, taken away, as libpq does it. A host that ignores it needs none of this. */
static int block_sigpipe(void)
{
    struct sigaction action;
    sigset_t pipe, before;

    if (sigaction(SIGPIPE, NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) && action.sa_handler == SIG_IGN)
        return PIPE_LEFT_ALONE;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    if (pthread_sigmask(SIG_BLOCK, &pipe, &before) != 0)
        return PIPE_LEFT_ALONE;
    if (!sigismember(&before, SIGPIPE))
        return PIPE_BLOCKED_BY_US;
    /* One that was pending before is the host's own. */
    return is_sigpipe_pending() ? PIPE_LEFT_ALONE : PIPE_BLOCKED_BEFORE;
}

static void restore_sigpipe(int how)
{
    static const struct timespec at_once = {0, 0};
    sigset_t pipe;

    if (how == PIPE_LEFT_ALONE)
        return;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    if (is_sigpipe_pending())
        sigtimedwait(&pipe, NULL, &at_once);
    if (how == PIPE_BLOCKED_BY_US)
        pthread_sigmask(SIG_UNBLOCK, &pipe, NULL);
}

int rssi_enter(struct rssi_guard *guard, enum rssi_need need)
{
    guard->sigpipe = PIPE_LEFT_ALONE;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &guard->cancel_state);
    rssi_error_clear();
    if (forked)
        return rssi_error(RSS_E_FORKED, "this process is a fork of one that had started the library: fork before "
                                        "the first call, or start another program in the child");
    if (need == RSSI_PLAIN)
        return RSS_OK;
    guard->sigpipe = block_sigpipe();
    if (need != RSSI_STARTS)
        return RSS_OK;
    return rssi_start(NULL);
}

void rssi_shield(struct rssi_guard *guard)
{
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &guard->cancel_state);
    guard->sigpipe = block_sigpipe();
}

int rssi_leave(struct rssi_guard *guard, int code)
{
    restore_sigpipe(guard->sigpipe);
    pthread_setcancelstate(guard->cancel_state, &guard->cancel_state);
    return code;
}

int rssi_misuse(const char *format, ...)
{
    struct rssi_guard guard;
    char text[256];
    va_list arguments;
    int code = rssi_enter(&guard, RSSI_PLAIN);

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return rssi_leave(&guard, code != RSS_OK ? code : rssi_error(RSS_E_MISUSE, "%s", text));
}

int rssi_is_struct(const void *given)
{
    size_t size = given == NULL ? 0 : *(const size_t *)given;

    return size >= 2 * sizeof(size_t) && size <= (size_t)1 << 24 && size % sizeof(size_t) == 0;
}
