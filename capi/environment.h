/* Where the Python environment is. */
#ifndef RSSI_ENVIRONMENT_H
#define RSSI_ENVIRONMENT_H

#include <limits.h>

#include "core.h"

#define RSSI_PACKAGES 4

struct rssi_environment {
    char python[PATH_MAX];                  /* the interpreter, by its full path */
    char home[PATH_MAX];                    /* of the standard library; set before the search */
    char packages[RSSI_PACKAGES][PATH_MAX]; /* folders of packages, the first one first */
    int count;
};

/* The prefix of the libpython that this process has loaded. RSS_E_INIT. */
int rssi_find_home(char *home);
/* The environment, by the order that the manual tells at rss_init. RSS_E_INIT with what was tried. */
int rssi_find_environment(const rss_init_options *options, struct rssi_environment *found);

#endif
