/* Sending a prepared statement and waiting for its answer, with Python's lock given up once.
 *
 * psycopg gives it up three times for that: to send, to wait, and to read. Each time another thread may take it, and this
 * one waits for it again. What goes wrong is left to psycopg: its own libpq is called here, on its own connection, and it
 * goes on from there. Where Python takes signals this is not for it: no Ctrl-C ends the wait.
 */
#include "exchange.h"

#include "queue.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>

#define MOST_VALUES 32

struct pg_conn;

static struct {
    int (*send_query_prepared)(struct pg_conn *, const char *, int, const char *const *, const int *, const int *, int);
    int (*flush)(struct pg_conn *);
    int (*socket)(const struct pg_conn *);
    int (*consume_input)(struct pg_conn *);
    int (*is_busy)(struct pg_conn *);
    void *(*notifies)(struct pg_conn *);
    void (*freemem)(void *);
} pq;

struct statement {
    struct pg_conn *connection;
    const char *name, *values[MOST_VALUES];
    int count, lengths[MOST_VALUES], formats[MOST_VALUES];
    double limit; /* Seconds to wait for the answer. 0: no limit. */
};

enum outcome { NOT_SENT, NO_ANSWER_YET, ANSWERED, LOST, TOO_LATE }; /* as in database/_prepared.py */

/* For poll: milliseconds until then, rounded up; -1: no limit. */
static int left(int64_t end_us)
{
    int64_t us = end_us - rssq_now_us();

    if (end_us == INT64_MAX)
        return -1;
    return us <= 0 ? 0 : us > INT64_C(86400000000) ? 86400000 : (int)((us + 999) / 1000);
}

/* Without Python's lock. */
static enum outcome run(const struct statement *given)
{
    struct pg_conn *connection = given->connection;
    struct pollfd wait;
    const int64_t end_us = given->limit > 0 ? rssq_now_us() + (int64_t)(given->limit * 1e6) : INT64_MAX;
    void *notification;
    int unsent, ready;

    if (!pq.send_query_prepared(connection, given->name, given->count, given->values, given->lengths, given->formats, 1))
        return NOT_SENT;
    while ((unsent = pq.flush(connection)) > 0 || (unsent == 0 && pq.is_busy(connection))) {
        wait.fd = pq.socket(connection);
        wait.events = (short)(unsent > 0 ? POLLIN | POLLOUT : POLLIN);
        wait.revents = 0;
        ready = poll(&wait, 1, left(end_us));
        if (ready < 0 && errno != EINTR)
            return NO_ANSWER_YET;
        if (ready == 0 && left(end_us) == 0)
            return TOO_LATE;
        if ((wait.revents & ~POLLOUT) != 0 && !pq.consume_input(connection))
            return LOST;
    }
    if (unsent < 0)
        return NO_ANSWER_YET;
    while ((notification = pq.notifies(connection)) != NULL)
        pq.freemem(notification);
    return ANSWERED;
}

/* 0: of a kind that is left to psycopg. */
static int read_value(struct statement *statement, PyObject *value, PyObject *format)
{
    const int i = statement->count++;
    Py_ssize_t size = 0;

    if (value == Py_None) {
        statement->values[i] = NULL;
    } else if (PyBytes_Check(value)) {
        statement->values[i] = PyBytes_AS_STRING(value);
        size = PyBytes_GET_SIZE(value);
    } else if (PyByteArray_Check(value)) {
        statement->values[i] = PyByteArray_AS_STRING(value);
        size = PyByteArray_GET_SIZE(value);
    } else {
        return 0;
    }
    if (size > INT32_MAX || (format != NULL && !PyLong_Check(format)))
        return 0;
    statement->lengths[i] = (int)size;
    statement->formats[i] = format == NULL ? 0 : (int)PyLong_AsLong(format);
    return 1;
}

static int read_statement(struct statement *statement, PyObject *const *given)
{
    PyObject *values = given[2], *formats = given[3] == Py_None ? NULL : given[3], *limit = given[4];
    Py_ssize_t i;

    if (!PyLong_Check(given[0]) || !PyBytes_Check(given[1]) || !PyList_Check(values) ||
        PyList_GET_SIZE(values) > MOST_VALUES ||
        (limit != Py_None && !PyFloat_Check(limit)) ||
        (formats != NULL && (!PyList_Check(formats) || PyList_GET_SIZE(formats) != PyList_GET_SIZE(values))))
        return 0;
    statement->connection = PyLong_AsVoidPtr(given[0]);
    statement->name = PyBytes_AS_STRING(given[1]);
    statement->count = 0;
    statement->limit = limit == Py_None ? 0 : PyFloat_AS_DOUBLE(limit);
    for (i = 0; i < PyList_GET_SIZE(values); i++)
        if (!read_value(statement, PyList_GET_ITEM(values, i), formats == NULL ? NULL : PyList_GET_ITEM(formats, i)))
            return 0;
    return 1;
}

static PyObject *send_statement(PyObject *self, PyObject *const *given, Py_ssize_t count)
{
    struct statement statement;
    enum outcome outcome = NOT_SENT;

    (void)self;
    if (count != 5) {
        PyErr_SetString(PyExc_TypeError, "send() takes 5 arguments");
        return NULL;
    }
    if (read_statement(&statement, given)) {
        Py_BEGIN_ALLOW_THREADS
        outcome = run(&statement);
        Py_END_ALLOW_THREADS
    }
    return PyErr_Occurred() ? NULL : PyLong_FromLong(outcome);
}

/* With Python's lock: it only looks at what has been read. */
static PyObject *is_busy(PyObject *self, PyObject *connection)
{
    void *address = connection == Py_None ? NULL : PyLong_AsVoidPtr(connection);

    (void)self;
    return PyErr_Occurred() ? NULL : PyBool_FromLong(pq.is_busy(address));
}

/* A function of the libpq that psycopg's module calls. 0: there is none, or another libpq of the
 * process hides it. */
static int find(void *module, const char *name, void *function)
{
    void *process = dlopen(NULL, RTLD_NOW);
    void *found = dlsym(module, name), *hiding = process == NULL ? NULL : dlsym(process, name);

    if (process != NULL)
        dlclose(process);
    *(void **)function = found;
    return found != NULL && (hiding == NULL || hiding == found);
}

PyObject *rssi_exchange_new(const char *psycopg_module)
{
    static PyMethodDef methods[] = {
        {"send", (PyCFunction)(void (*)(void))send_statement, METH_FASTCALL, NULL},
        {"is_busy", is_busy, METH_O, NULL},
        {NULL, NULL, 0, NULL},
    };
    static struct PyModuleDef exchange = {PyModuleDef_HEAD_INIT, "_exchange", NULL, -1, methods, NULL, NULL, NULL, NULL};
    void *module = dlopen(psycopg_module, RTLD_NOW | RTLD_NOLOAD);

    if (module == NULL || !find(module, "PQsendQueryPrepared", &pq.send_query_prepared) ||
        !find(module, "PQflush", &pq.flush) || !find(module, "PQsocket", &pq.socket) ||
        !find(module, "PQconsumeInput", &pq.consume_input) || !find(module, "PQisBusy", &pq.is_busy) ||
        !find(module, "PQnotifies", &pq.notifies) || !find(module, "PQfreemem", &pq.freemem))
        Py_RETURN_NONE;
    return PyModule_Create(&exchange);
}
