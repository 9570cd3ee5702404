/* Starting Python inside the host: once, by whichever thread comes first, without a trace in the process. */
#include "environment.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "python.h"

static int started;       /* atomic; 1 once everything is there */
static int owns_python;   /* Python was started here, not by the host */
static int beginners;     /* atomic; threads that are in rssi_start */
static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;

/* Extension modules do not name libpython as a library of theirs: they take it for granted that its symbols are
 * global. A host that loaded us with RTLD_LOCAL has them hidden, and the first import would fail. */
static void promote_libpython(void)
{
    Dl_info info;
    void *process = dlopen(NULL, RTLD_NOW);
    int is_global = process != NULL && dlsym(process, "PyExc_SystemError") != NULL;

    if (process != NULL)
        dlclose(process);
    if (!is_global && dladdr((const void *)(uintptr_t)&Py_IsInitialized, &info) != 0)
        (void)dlopen(info.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
}

static int status_error(PyStatus status, const char *what)
{
    return rssi_error(RSS_E_INIT, "Python cannot be started (%s): %s%s%s", what, status.func ? status.func : "",
                      status.func ? ": " : "", status.err_msg ? status.err_msg : "no reason given");
}

/* Without its first modules Python prints what it knows of its paths, and without descriptors it cannot read
 * them. */
static int check_surroundings(const struct rssi_environment *environment)
{
    char path[PATH_MAX + 64];
    int descriptors[4], i, reason = 0;

    snprintf(path, sizeof path, "%s/lib/python%d.%d/encodings/__init__.py", environment->home, PY_MAJOR_VERSION,
             PY_MINOR_VERSION);
    for (i = 0; i < 4; i++)
        if ((descriptors[i] = open(path, O_RDONLY | O_CLOEXEC)) < 0)
            reason = errno;
    for (i = 0; i < 4; i++)
        if (descriptors[i] >= 0)
            close(descriptors[i]);
    return reason == 0 ? RSS_OK : rssi_error(RSS_E_INIT, "cannot read %.1000s: %s", path, strerror(reason));
}

static int configure(PyConfig *config, const struct rssi_environment *environment)
{
    PyStatus status;

    config->site_import = 0; /* sitecustomize and user site may do anything; packages are added below */
    config->install_signal_handlers = 0;
    config->pathconfig_warnings = 0;
    config->configure_c_stdio = 0;
    config->faulthandler = 0;
    status = PyConfig_SetBytesString(config, &config->executable, environment->python);
    if (!PyStatus_Exception(status))
        status = PyConfig_SetBytesString(config, &config->program_name, environment->python);
    if (!PyStatus_Exception(status))
        status = PyConfig_SetBytesString(config, &config->home, environment->home);
    if (!PyStatus_Exception(status))
        status = PyWideStringList_Append(&config->warnoptions, L"ignore");
    return PyStatus_Exception(status) ? status_error(status, "settings") : RSS_OK;
}

/* Leaves this thread without the GIL. */
static int start_python(const rss_init_options *options, const struct rssi_environment *environment)
{
    const char *allocator = getenv("ROOTSTREAM_STORE_ALLOCATOR");
    PyPreConfig before;
    PyConfig config;
    PyStatus status;
    int code = check_surroundings(environment);

    if (code != RSS_OK)
        return code;
    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1;
    if ((options != NULL && options->use_malloc) || (allocator != NULL && strcmp(allocator, "malloc") == 0))
        before.allocator = PYMEM_ALLOCATOR_MALLOC; /* PYTHONMALLOC does not reach an isolated interpreter */
    status = Py_PreInitialize(&before);
    if (PyStatus_Exception(status))
        return status_error(status, "memory and encoding");
    PyConfig_InitIsolatedConfig(&config);
    code = configure(&config, environment);
    if (code == RSS_OK) {
        status = Py_InitializeFromConfig(&config);
        if (PyStatus_Exception(status))
            code = status_error(status, environment->home);
    }
    PyConfig_Clear(&config);
    if (code != RSS_OK)
        return code;
    __atomic_store_n(&owns_python, 1, __ATOMIC_RELEASE);
    PyEval_SaveThread();
    return RSS_OK;
}

static int python_error(const char *doing)
{
    char text[1024];

    rssi_describe_exception(text, sizeof text);
    return rssi_error(RSS_E_INIT, "%.1000s: %s", doing, text);
}

static int add_site(const struct rssi_environment *environment)
{
    PyObject *site = PyImport_ImportModule("site");
    int i, code = RSS_OK;

    if (site == NULL)
        return python_error("the module site");
    for (i = 0; i < environment->count && code == RSS_OK; i++) {
        PyObject *path = PyUnicode_DecodeFSDefault(environment->packages[i]);
        PyObject *done = path == NULL ? NULL : PyObject_CallMethod(site, "addsitedir", "O", path);

        if (done == NULL)
            code = python_error(environment->packages[i]);
        Py_XDECREF(path);
        Py_XDECREF(done);
    }
    Py_DECREF(site);
    return code;
}

static int import(const char *name, const struct rssi_environment *environment)
{
    PyObject *module = PyImport_ImportModule(name);
    char doing[PATH_MAX + 64];

    if (module == NULL) {
        snprintf(doing, sizeof doing, "cannot import %s in %s", name, environment->python);
        return python_error(doing);
    }
    Py_DECREF(module);
    return RSS_OK;
}

/* Under the GIL: everything that can fail, so that cffi's own start, which prints, has nothing left to meet. */
static int prepare(const struct rssi_environment *environment)
{
    int code = import("signal", environment);

    if (code == RSS_OK)
        code = add_site(environment);
    if (code == RSS_OK)
        code = import("_cffi_backend", environment);
    if (code == RSS_OK)
        code = import("rootstream_store.capi._entry", environment);
#if PY_VERSION_HEX < 0x030C0000
    /* cffi takes this type's version tag, which any lookup of an attribute sets, for its lock: it would wait for
     * ever. */
    PyType_Modified(&PyCapsule_Type);
#endif
    return code;
}

static int is_right_version(void)
{
    char wanted[16];

    snprintf(wanted, sizeof wanted, "%d.%d.", PY_MAJOR_VERSION, PY_MINOR_VERSION);
    if (strncmp(Py_GetVersion(), wanted, strlen(wanted)) == 0)
        return RSS_OK;
    return rssi_error(RSS_E_INIT, "library built for Python %d.%d, but the process runs Python %.20s",
                      PY_MAJOR_VERSION, PY_MINOR_VERSION, Py_GetVersion());
}

static int start_all(const rss_init_options *options)
{
    static struct rssi_environment environment; /* large, and under the lock */
    PyGILState_STATE state;
    int is_running = Py_IsInitialized(), code = is_right_version();

    if (code != RSS_OK)
        return code;
    environment.home[0] = '\0';
    code = rssi_find_home(environment.home);
    if (code == RSS_OK)
        code = rssi_find_environment(options, &environment);
    if (code != RSS_OK && !is_running)
        return code;
    /* The host's own Python may have the package without any environment of ours. */
    promote_libpython();
    if (!is_running && (code = start_python(options, &environment)) != RSS_OK)
        return code;
    state = PyGILState_Ensure();
    code = prepare(&environment);
    PyGILState_Release(state);
    if (code != RSS_OK)
        return code;
    if (rssi_cffi_start() != 0)
        return rssi_error(RSS_E_INIT, "cffi cannot start its module");
    state = rssi_take_gil();
    code = rssi_boot(owns_python);
    PyGILState_Release(state);
    return code;
}

/* Importing modules sets handlers (SIGINT, SIGPIPE), and the threads that they start must not take the host's
 * signals: all are blocked meanwhile, and all dispositions are put back. */
static int start_quietly(const rss_init_options *options)
{
    struct sigaction actions[64], now;
    char is_kept[64] = {0};
    sigset_t all, before;
    int number, code;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    for (number = 1; number < 64; number++)
        is_kept[number] = sigaction(number, NULL, &actions[number]) == 0;
    code = start_all(options);
    for (number = 1; number < 64; number++)
        if (is_kept[number] && sigaction(number, NULL, &now) == 0 && now.sa_handler != actions[number].sa_handler)
            (void)sigaction(number, &actions[number], NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

int rssi_has_begun(void)
{
    return __atomic_load_n(&started, __ATOMIC_ACQUIRE) || __atomic_load_n(&owns_python, __ATOMIC_ACQUIRE) ||
           __atomic_load_n(&beginners, __ATOMIC_ACQUIRE) > 0;
}

int rssi_start(const rss_init_options *options)
{
    void *held;
    int code = RSS_OK;

    if (__atomic_load_n(&started, __ATOMIC_ACQUIRE))
        return RSS_OK;
    /* A thread of the host's Python that came with the GIL must not keep it while it waits for another one. */
    held = rssi_give_up_gil();
    rssi_watch_forks();
    __atomic_add_fetch(&beginners, 1, __ATOMIC_ACQ_REL);
    pthread_mutex_lock(&starting);
    if (!started) {
        code = start_quietly(options);
        if (code == RSS_OK)
            __atomic_store_n(&started, 1, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&starting);
    __atomic_sub_fetch(&beginners, 1, __ATOMIC_ACQ_REL);
    rssi_take_back_gil(held);
    return code;
}

PyGILState_STATE rssi_take_gil(void)
{
    static __thread int is_attached;

    if (!is_attached) {
        rssi_attach();
        is_attached = 1;
    }
    return PyGILState_Ensure();
}

void *rssi_give_up_gil(void)
{
    return Py_IsInitialized() && PyGILState_GetThisThreadState() != NULL && PyGILState_Check() ? PyEval_SaveThread() : NULL;
}

void rssi_take_back_gil(void *held)
{
    if (held != NULL)
        PyEval_RestoreThread(held);
}

void rssi_drop_object(void *object)
{
    PyGILState_STATE state = rssi_take_gil();

    Py_XDECREF((PyObject *)object);
    PyGILState_Release(state);
}

int rss_init(const rss_init_options *options)
{
    struct rssi_guard guard;
    int code;

    if (options != NULL && !rssi_is_struct(options))
        return rssi_misuse("struct_size of rss_init_options is not set: it must be sizeof(rss_init_options)");
    code = rssi_enter(&guard, RSSI_IO);
    if (code == RSS_OK)
        code = rssi_start(options);
    return rssi_leave(&guard, code);
}

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)

const char *rss_version(void)
{
    return STRING(RSS_VERSION_MAJOR) "." STRING(RSS_VERSION_MINOR) "." STRING(RSS_VERSION_PATCH);
}

int rss_version_number(void)
{
    return RSS_VERSION_MAJOR * 10000 + RSS_VERSION_MINOR * 100 + RSS_VERSION_PATCH;
}
