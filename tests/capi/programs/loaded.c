/* A host that is not linked with the library but loads it, hides its symbols, and loads it twice. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rootstream_store.h"

typedef int (*init_function)(const rss_init_options *);
typedef int (*open_function)(const char *, const char *, const rss_options *, rss_store **);
typedef int (*get_function)(rss_store *, int64_t, rss_user *);
typedef int (*close_function)(rss_store *, int64_t);
typedef const rss_error *(*error_function)(void);

/* C has no conversion from an object pointer to a function pointer. */
static void find(void *library, const char *name, void *function)
{
    void *found = dlsym(library, name);

    if (found == NULL) {
        printf("no %s\n", name);
        exit(1);
    }
    memcpy(function, &found, sizeof found);
}

static int use(const char *path, int flags)
{
    void *library = dlopen(path, flags);
    rss_store *store = NULL;
    rss_user user = RSS_USER_INIT;
    init_function init;
    open_function open;
    get_function get;
    close_function close;
    error_function last_error;

    if (library == NULL) {
        printf("%s\n", dlerror());
        return 1;
    }
    find(library, "rss_init", &init);
    find(library, "rss_open", &open);
    find(library, "rss_user_get", &get);
    find(library, "rss_close", &close);
    find(library, "rss_last_error", &last_error);
    if (init(NULL) != RSS_OK || open(NULL, NULL, NULL, &store) != RSS_OK ||
        get(store, 1, &user) != RSS_E_NOT_FOUND || close(store, 1000) != RSS_OK) {
        printf("%s\n", last_error()->message);
        return 1;
    }
    return dlclose(library);
}

int main(int count, char **arguments)
{
    int flags = RTLD_NOW | RTLD_LOCAL;

    if (count < 2)
        return 2;
    if (count > 2 && strcmp(arguments[2], "deepbind") == 0)
        flags |= RTLD_DEEPBIND;
    if (use(arguments[1], flags) != 0 || use(arguments[1], flags) != 0)
        return 1;
    printf("ok\n");
    return 0;
}
