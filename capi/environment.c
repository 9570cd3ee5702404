/* Where the Python environment is: the interpreter by name, its standard library, its packages. */
#include "environment.h"

#include <dirent.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core.h"
#include "python.h"

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)
#define PYTHON_X_Y "python" STRING(PY_MAJOR_VERSION) "." STRING(PY_MINOR_VERSION)

static int is_file(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

static int is_directory(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* Takes the last part of the path away. 0: there is none left. */
static int to_parent(char *path)
{
    char *slash = strrchr(path, '/');

    if (slash == NULL || slash == path)
        return 0;
    *slash = '\0';
    return 1;
}

static int join(char *to, const char *directory, const char *rest)
{
    return snprintf(to, PATH_MAX, "%s/%s", directory, rest) < PATH_MAX;
}

/* The file that a function of ours or of Python was loaded from, whatever links lead there. */
static int file_of(const void *function, char *path)
{
    Dl_info info;

    return dladdr(function, &info) != 0 && info.dli_fname != NULL && realpath(info.dli_fname, path) != NULL;
}

/* The virtual environment that this library lies in. */
static int find_around(char *python)
{
    char path[PATH_MAX], file[PATH_MAX];

    if (!file_of((const void *)(uintptr_t)&rss_version, path))
        return 0;
    while (to_parent(path))
        if (join(file, path, "pyvenv.cfg") && is_file(file) && join(python, path, "bin/python") &&
            access(python, X_OK) == 0)
            return 1;
    return 0;
}

/* What the file beside the library says, which was written when it was installed. */
static void read_beside(char *python)
{
    char path[PATH_MAX], file[PATH_MAX + 16];
    FILE *stream = NULL;

    python[0] = '\0';
    if (file_of((const void *)(uintptr_t)&rss_version, path)) {
        snprintf(file, sizeof file, "%s.python", path);
        stream = fopen(file, "re");
    }
    if (stream == NULL)
        return;
    if (fgets(python, PATH_MAX, stream) == NULL)
        python[0] = '\0';
    python[strcspn(python, "\n")] = '\0';
    fclose(stream);
}

/* The name of another Python's packages in the environment, for the error. */
static int find_other(const char *base, char *name)
{
    char path[PATH_MAX];
    struct dirent *entry;
    DIR *directory;
    int found = 0;

    if (!join(path, base, "lib") || (directory = opendir(path)) == NULL)
        return 0;
    while (!found && (entry = readdir(directory)) != NULL)
        if (strncmp(entry->d_name, "python3.", 8) == 0 && strcmp(entry->d_name, PYTHON_X_Y) != 0)
            found = snprintf(name, 32, "%.31s", entry->d_name) > 0;
    closedir(directory);
    return found;
}

/* Whether pyvenv.cfg lets the packages of the base Python in. */
static int sees_system(const char *file)
{
    char line[512];
    FILE *stream = fopen(file, "re");
    int sees = 0;

    if (stream == NULL)
        return 0;
    while (fgets(line, sizeof line, stream) != NULL)
        if (strncmp(line, "include-system-site-packages", 28) == 0 && strstr(line, "true") != NULL)
            sees = 1;
    fclose(stream);
    return sees;
}

static int add_packages(struct rssi_environment *found, const char *directory)
{
    if (!is_directory(directory) || found->count == RSSI_PACKAGES)
        return 0;
    snprintf(found->packages[found->count++], PATH_MAX, "%s", directory);
    return 1;
}

static int add_base(struct rssi_environment *found, const char *base)
{
    static const char *const places[] = {"lib/" PYTHON_X_Y "/site-packages", "local/lib/" PYTHON_X_Y "/dist-packages",
                                         "lib/python3/dist-packages"};
    char path[PATH_MAX];
    size_t i;
    int added = 0;

    for (i = 0; i < sizeof places / sizeof *places; i++)
        if (join(path, base, places[i]))
            added |= add_packages(found, path);
    return added;
}

static int find_packages(struct rssi_environment *found, const char *source)
{
    char base[PATH_MAX], path[PATH_MAX], other[32];

    snprintf(base, sizeof base, "%s", found->python);
    if (!to_parent(base) || !to_parent(base))
        snprintf(base, sizeof base, "%s", "/");
    if (join(path, base, "pyvenv.cfg") && is_file(path)) {
        int sees = sees_system(path);

        if (join(path, base, "lib/" PYTHON_X_Y "/site-packages") && add_packages(found, path)) {
            if (sees)
                add_base(found, found->home);
            return RSS_OK;
        }
    } else if (add_base(found, base) || add_base(found, found->home)) {
        return RSS_OK;
    }
    if (find_other(base, other))
        return rssi_error(RSS_E_INIT, "library built for " PYTHON_X_Y ", but %s (%s) is an environment of %s",
                          found->python, source, other);
    return rssi_error(RSS_E_INIT, "%s (%s) has no packages for " PYTHON_X_Y, found->python, source);
}

int rssi_find_home(char *home)
{
    char path[PATH_MAX], file[PATH_MAX];

    if (!file_of((const void *)(uintptr_t)&Py_IsInitialized, path))
        return rssi_error(RSS_E_INIT, "cannot tell which file libpython was loaded from");
    snprintf(home, PATH_MAX, "%s", path);
    while (to_parent(home))
        if (join(file, home, "lib/" PYTHON_X_Y "/os.py") && is_file(file))
            return RSS_OK;
    return rssi_error(RSS_E_INIT, "no standard library (lib/" PYTHON_X_Y "/os.py) above %s", path);
}

int rssi_find_environment(const rss_init_options *options, struct rssi_environment *found)
{
    const char *named = options == NULL ? NULL : options->python, *source = "named in the options";

    found->count = 0;
    if (named == NULL || *named == '\0') {
        named = getenv("ROOTSTREAM_STORE_PYTHON");
        source = "from ROOTSTREAM_STORE_PYTHON";
    }
    if (named != NULL && *named != '\0') {
        if (snprintf(found->python, PATH_MAX, "%s", named) >= PATH_MAX)
            return rssi_error(RSS_E_INIT, "the name of the Python interpreter is too long");
    } else if (find_around(found->python)) {
        source = "around the library";
    } else {
        read_beside(found->python);
        source = "that the library was installed with";
    }
    if (found->python[0] != '/' || access(found->python, X_OK) != 0)
        return rssi_error(RSS_E_INIT, "no Python interpreter \"%s\" (%s); name one by its full path in "
                                      "ROOTSTREAM_STORE_PYTHON or in the options of rss_init",
                          found->python, source);
    return find_packages(found, source);
}
