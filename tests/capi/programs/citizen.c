/* How the library behaves in a process that is not its own. Each test is one argument. */
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <locale.h>
#include <sys/resource.h>
#include <sys/stat.h>

extern char **environ;

static void use(rss_store *store, const char *name)
{
    char username[64], email[80];
    rss_user made = RSS_USER_INIT, got = RSS_USER_INIT;

    snprintf(username, sizeof username, "%s%d", name, (int)getpid());
    snprintf(email, sizeof email, "%s@example.org", username);
    EXPECT(RSS_OK, rss_user_create(store, username, email, "correct horse battery", NULL, NULL, &made));
    EXPECT(RSS_OK, rss_user_get(store, made.id, &got));
    CHECK(strcmp(got.username, username) == 0);
}

static void basic(void)
{
    rss_store *store = open_store(2);

    CHECK(rss_last_error()->code == RSS_OK && rss_last_error()->message[0] == '\0');
    use(store, "ann");
    EXPECT(RSS_OK, rss_close(store, 2000));
}

/* The library file must not be asked for more than this: the reason, and nothing on the streams. */
static void fails(const char *python)
{
    rss_init_options options = RSS_INIT_OPTIONS_INIT;
    const rss_error *error;

    options.python = *python ? python : NULL;
    EXPECT(RSS_E_INIT, rss_init(&options));
    error = rss_last_error();
    CHECK(error->code == RSS_E_INIT && error->message[0] != '\0');
    printf("%s\n", error->message);
}

static void tries_again(const char *wrong)
{
    rss_init_options options = RSS_INIT_OPTIONS_INIT;

    options.python = wrong;
    EXPECT(RSS_E_INIT, rss_init(&options));
    EXPECT(RSS_OK, rss_init(NULL));
    EXPECT(RSS_OK, rss_init(&options)); /* started: what it says no longer matters */
}

static int same_action(const struct sigaction *a, const struct sigaction *b)
{
    const int restorer = 0x04000000; /* glibc's own, in everything that was ever set */

    return a->sa_handler == b->sa_handler && ((a->sa_flags ^ b->sa_flags) & ~restorer) == 0;
}

static void signals_kept(void)
{
    struct sigaction before[65], after;
    sigset_t blocked_before, blocked_after;
    int number;

    for (number = 1; number < 65; number++)
        (void)sigaction(number, NULL, &before[number]);
    pthread_sigmask(SIG_SETMASK, NULL, &blocked_before);
    basic();
    pthread_sigmask(SIG_SETMASK, NULL, &blocked_after);
    for (number = 1; number < 65; number++) {
        if (number == 32 || number == 33)
            continue;
        CHECK(sigaction(number, NULL, &after) != 0 || same_action(&before[number], &after));
        CHECK(sigismember(&blocked_before, number) == sigismember(&blocked_after, number));
    }
}

static volatile sig_atomic_t interrupted;

static void note(int number)
{
    (void)number;
    interrupted++;
}

static void *interrupt(void *main_thread)
{
    int i;

    for (i = 0; i < 5; i++) {
        usleep(60000);
        pthread_kill(*(pthread_t *)main_thread, SIGINT);
    }
    return NULL;
}

/* The host's handler runs in the midst of a call, and the call goes on. */
static void handler_runs(void)
{
    struct sigaction action;
    pthread_t other, self = pthread_self();
    rss_store *store = open_store(2);
    char *rows = NULL;

    memset(&action, 0, sizeof action);
    action.sa_handler = note;
    CHECK(sigaction(SIGINT, &action, NULL) == 0);
    CHECK(pthread_create(&other, NULL, interrupt, &self) == 0);
    EXPECT(RSS_OK, rss_query_json(store, "SELECT 1 AS one FROM pg_sleep(0.5)", NULL, &rows, NULL));
    CHECK(strcmp(rows, "[{\"one\":1}]") == 0);
    rss_free(rows);
    CHECK(pthread_join(other, NULL) == 0);
    CHECK(interrupted == 5);
    EXPECT(RSS_OK, rss_close(store, 2000));
}

static void interrupt_kills(void)
{
    basic();
    printf("no signal\n");
    fflush(stdout);
    raise(SIGINT);
    printf("still alive\n");
}

/* Threads of the library must leave the host's signals to the host's threads. */
/* What each thread blocks. Read here: system() changes the mask of the thread that calls it. */
static void threads_block(void)
{
    rss_store *store = open_store(2);
    char path[300], line[128];
    struct dirent *entry;
    DIR *tasks;
    FILE *status;

    EXPECT(RSS_OK, rss_user_get(store, 1, NULL) == RSS_E_NOT_FOUND ? RSS_OK : RSS_E_INTERNAL);
    CHECK((tasks = opendir("/proc/self/task")) != NULL);
    while ((entry = readdir(tasks)) != NULL) {
        snprintf(path, sizeof path, "/proc/self/task/%.200s/status", entry->d_name);
        if (entry->d_name[0] == '.' || (status = fopen(path, "r")) == NULL)
            continue;
        while (fgets(line, sizeof line, status) != NULL)
            if (strncmp(line, "SigBlk", 6) == 0)
                fputs(line, stdout);
        fclose(status);
    }
    closedir(tasks);
    EXPECT(RSS_OK, rss_close(store, 2000));
}

/* REDIS_URL is a server that hangs up after its first answer. */
static void broken_pipe(void)
{
    rss_options options = RSS_OPTIONS_INIT;
    rss_store *store;
    sigset_t pending;
    int i;

    EXPECT(RSS_OK, rss_open(NULL, NULL, &options, &store));
    for (i = 0; i < 5; i++)
        CHECK(rss_cache_set(store, "key", "value", 5, RSS_NONE) < 0);
    sigpending(&pending);
    CHECK(!sigismember(&pending, SIGPIPE));
    EXPECT(RSS_OK, rss_close(store, 2000));
    printf("no signal\n");
    fflush(stdout);
    raise(SIGPIPE);
    printf("still alive\n");
}

static void surroundings_kept(void)
{
    char locale_before[512], directory_before[4096], directory_after[4096], **variable;
    unsigned long count = 0, count_after = 0;
    mode_t mask = umask(022);
    int flags[3], i;

    umask(mask);
    setlocale(LC_ALL, "");
    snprintf(locale_before, sizeof locale_before, "%s", setlocale(LC_ALL, NULL));
    CHECK(getcwd(directory_before, sizeof directory_before) != NULL);
    for (variable = environ; *variable != NULL; variable++)
        count += strlen(*variable);
    for (i = 0; i < 3; i++)
        flags[i] = fcntl(i, F_GETFL);
    basic();
    CHECK(strcmp(locale_before, setlocale(LC_ALL, NULL)) == 0);
    CHECK(getcwd(directory_after, sizeof directory_after) != NULL);
    CHECK(strcmp(directory_before, directory_after) == 0);
    for (variable = environ; *variable != NULL; variable++)
        count_after += strlen(*variable);
    CHECK(count == count_after);
    for (i = 0; i < 3; i++)
        CHECK(flags[i] == fcntl(i, F_GETFL));
    CHECK(umask(mask) == mask);
}

static int stop;

static void *hammer(void *store)
{
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
        rss_user_get((rss_store *)store, 1, NULL);
    return NULL;
}

static void in_fork(rss_store *store, rss_rows *rows)
{
    rss_user user = RSS_USER_INIT;
    rss_store *other = NULL;
    double start = seconds();

    alarm(10); /* a hang is a failure, too */
    if (rss_user_get(store, 1, &user) != RSS_E_FORKED || rss_last_error()->code != RSS_E_FORKED)
        _exit(10);
    if (rss_user_next(rows, &user) != RSS_E_FORKED || rss_rows_free(rows) != RSS_E_FORKED)
        _exit(11);
    if (rss_close(store, 100) != RSS_E_FORKED || rss_open(NULL, NULL, NULL, &other) != RSS_E_FORKED)
        _exit(12);
    if (rss_init(NULL) != RSS_E_FORKED || rss_cache_get(store, "key", NULL, NULL) != RSS_E_FORKED)
        _exit(13);
    if (rss_rows_count(rows) != -1 || rss_last_error()->code != RSS_E_FORKED || other != NULL)
        _exit(14);
    _exit(seconds() - start < 1 ? 0 : 15);
}

static void forks(void)
{
    pthread_t threads[3];
    rss_store *store;
    rss_rows *rows;
    int i, status;
    pid_t child = fork();

    if (child == 0) { /* before the start: a process of its own */
        basic();
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    store = open_store(4);
    use(store, "bob");
    EXPECT(RSS_OK, rss_user_list(store, 0, 10, &rows));
    for (i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, hammer, store) == 0);
    for (i = 0; i < 10; i++) {
        child = fork();
        if (child == 0)
            in_fork(store, rows);
        CHECK(waitpid(child, &status, 0) == child);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            printf("child: status %x\n", (unsigned)status);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    CHECK(system("true") == 0);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (i = 0; i < 3; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    use(store, "cid");
    EXPECT(RSS_OK, rss_rows_free(rows));
    EXPECT(RSS_OK, rss_close(store, 2000));
}

/* A start that failed before there was a Python leaves nothing behind that a child could not use. */
static void forks_after(const char *python)
{
    rss_init_options options = RSS_INIT_OPTIONS_INIT;
    pid_t child;
    int status;

    options.python = python;
    EXPECT(RSS_E_INIT, rss_init(&options));
    child = fork();
    if (child == 0) {
        const int code = rss_init(NULL);

        if (code == RSS_OK)
            basic();
        _exit(code == RSS_OK ? 0 : -code);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    printf("%d\n", WEXITSTATUS(status));
}

static void exits(void)
{
    pthread_t thread;
    rss_store *store = open_store(4);
    int i;

    for (i = 0; i < 4; i++)
        CHECK(pthread_create(&thread, NULL, hammer, store) == 0);
    usleep(100000);
    exit(0);
}

static void few_descriptors(void)
{
    struct rlimit limit = {3, 3};

    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    EXPECT(RSS_E_INIT, rss_init(NULL));
}

int main(int count, char **arguments)
{
    const char *test = count > 1 ? arguments[1] : "basic";
    const char *argument = count > 2 ? arguments[2] : "";

    if (strcmp(test, "basic") == 0)
        basic();
    else if (strcmp(test, "fails") == 0)
        fails(argument);
    else if (strcmp(test, "tries_again") == 0)
        tries_again(argument);
    else if (strcmp(test, "signals_kept") == 0)
        signals_kept();
    else if (strcmp(test, "handler_runs") == 0)
        handler_runs();
    else if (strcmp(test, "interrupt_kills") == 0)
        interrupt_kills();
    else if (strcmp(test, "threads_block") == 0)
        threads_block();
    else if (strcmp(test, "broken_pipe") == 0)
        broken_pipe();
    else if (strcmp(test, "surroundings_kept") == 0)
        surroundings_kept();
    else if (strcmp(test, "forks") == 0)
        forks();
    else if (strcmp(test, "forks_after") == 0)
        forks_after(argument);
    else if (strcmp(test, "exits") == 0)
        exits();
    else if (strcmp(test, "few_descriptors") == 0)
        few_descriptors();
    else
        return 2;
    printf("ok\n");
    return 0;
}
