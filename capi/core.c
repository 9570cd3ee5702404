/* One call: guards, handle, GIL, arguments, the Python function, its result or its error. */
#include "function.h"

#include <stdlib.h>
#include <string.h>

/* A part of a result on its way from Python to the caller. */
struct value {
    int64_t number;
    void *pointer; /* memory or object that is ours until it is delivered */
    size_t size;
    struct rssi_buffer packed;
    char room[768]; /* most records need no memory of their own */
};

static void discard(const struct rssi_function *function, struct value *values)
{
    int i;

    for (i = 0; i < function->part_count; i++) {
        if (function->parts[i].kind == RSSI_PART_RECORD)
            rssi_buffer_free(&values[i].packed);
        else if (function->parts[i].kind == RSSI_PART_HANDLE && values[i].pointer != NULL)
            rssi_drop_object(values[i].pointer);
        else
            free(values[i].pointer);
        values[i].pointer = NULL;
    }
}

/* Text or bytes as memory of ours, with a NUL behind. */
static int copy_bytes(PyObject *result, struct value *value)
{
    const char *bytes = NULL;
    Py_ssize_t size = 0;

    if (PyUnicode_Check(result))
        bytes = PyUnicode_AsUTF8AndSize(result, &size);
    else if (PyBytes_AsStringAndSize(result, (char **)&bytes, &size) < 0)
        bytes = NULL;
    if (bytes == NULL)
        return -1;
    value->pointer = malloc((size_t)size + 1);
    if (value->pointer == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(value->pointer, bytes, (size_t)size);
    ((char *)value->pointer)[size] = '\0';
    value->size = (size_t)size;
    return 0;
}

static int collect_part(const struct rssi_part *part, PyObject *result, struct value *value)
{
    switch (part->kind) {
    case RSSI_PART_INT:
    case RSSI_PART_FLAG:
        value->number = PyLong_AsLongLong(result);
        return value->number == -1 && PyErr_Occurred() ? -1 : 0;
    case RSSI_PART_TEXT:
    case RSSI_PART_BYTES:
    case RSSI_PART_SECRET:
        return copy_bytes(result, value);
    case RSSI_PART_RECORD:
        value->packed.data = value->room;
        value->packed.capacity = sizeof value->room;
        return rssi_pack(&rssi_records[part->record], result, &value->packed);
    case RSSI_PART_ROWS:
        value->pointer = rssi_rows_new(part->record, result);
        return value->pointer == NULL ? -1 : 0;
    case RSSI_PART_HANDLE:
        value->pointer = Py_NewRef(result);
        return 0;
    }
    return -1;
}

/* Under the GIL. RSS_NOTHING, or -1 with a Python exception. */
static int collect(const struct rssi_function *function, PyObject *result, struct value *values)
{
    int i;

    for (i = 0; i < function->part_count; i++) {
        values[i].pointer = NULL;
        values[i].packed.size = values[i].packed.is_heap = 0;
        values[i].packed.data = NULL;
    }
    if (function->may_be_none && result == Py_None)
        return RSS_NOTHING;
    if (function->part_count > 1 &&
        (!PyTuple_Check(result) || PyTuple_GET_SIZE(result) != function->part_count)) {
        PyErr_Format(PyExc_TypeError, "%s gave another number of results", function->name);
        return -1;
    }
    for (i = 0; i < function->part_count; i++) {
        PyObject *part = function->part_count > 1 ? PyTuple_GET_ITEM(result, i) : result;

        if (collect_part(&function->parts[i], part, &values[i]) < 0) {
            discard(function, values);
            return -1;
        }
    }
    return RSS_OK;
}

static int deliver_handle(enum rssi_kind kind, struct value *value, void **out)
{
    void *handle = rssi_handle_new(kind, value->pointer);

    if (handle == NULL)
        return rssi_error(RSS_E_NO_MEMORY, "too many handles are open");
    value->pointer = NULL;
    *out = handle;
    return RSS_OK;
}

static int deliver_secret(const struct value *value, const struct rssi_secret *secret)
{
    if (secret->buffer == NULL)
        return RSS_OK;
    if (value->size >= secret->size)
        return rssi_error(RSS_E_BUFFER, "the buffer must have %lu bytes", (unsigned long)value->size + 1);
    memcpy(secret->buffer, value->pointer, value->size + 1);
    return RSS_OK;
}

/* Without the GIL. */
static int deliver_part(const struct rssi_part *part, struct value *value, void *out)
{
    struct rssi_bytes *bytes = out;
    int flag = (int)value->number;

    if (out == NULL)
        return RSS_OK;
    switch (part->kind) {
    case RSSI_PART_INT:
        memcpy(out, &value->number, sizeof value->number);
        return RSS_OK;
    case RSSI_PART_FLAG:
        memcpy(out, &flag, sizeof flag);
        return RSS_OK;
    case RSSI_PART_TEXT:
        *(char **)out = value->pointer;
        value->pointer = NULL;
        return RSS_OK;
    case RSSI_PART_BYTES:
        if (bytes->size != NULL)
            *bytes->size = value->size;
        if (bytes->data != NULL) {
            *bytes->data = value->pointer;
            value->pointer = NULL;
        }
        return RSS_OK;
    case RSSI_PART_SECRET:
        return deliver_secret(value, out);
    case RSSI_PART_RECORD:
        return rssi_unpack(&rssi_records[part->record], value->packed.data, out);
    case RSSI_PART_ROWS:
        return deliver_handle(RSSI_ROWS, value, out);
    case RSSI_PART_HANDLE:
        return deliver_handle(part->handle, value, out);
    }
    return RSS_OK;
}

/* What can be refused before anything is done. */
static int check_outputs(const struct rssi_function *function, void **outs)
{
    int i;

    for (i = 0; i < function->part_count; i++) {
        if (outs[i] == NULL)
            continue;
        switch (function->parts[i].kind) {
        case RSSI_PART_SECRET:
            if (((struct rssi_secret *)outs[i])->buffer != NULL &&
                ((struct rssi_secret *)outs[i])->size < RSSI_SECRET_SIZE)
                return rssi_error(RSS_E_BUFFER, "the buffer must have %d bytes at least", RSSI_SECRET_SIZE);
            break;
        case RSSI_PART_RECORD:
            if (!rssi_is_struct(outs[i]))
                return rssi_error(RSS_E_MISUSE, "struct_size of rss_%s is not set: it must be sizeof(rss_%s)",
                                  rssi_records[function->parts[i].record].name,
                                  rssi_records[function->parts[i].record].name);
            break;
        default:
            break;
        }
    }
    return RSS_OK;
}

/* Handles are NULL after an error, whatever it is, also before Python has started and read what the results are. */
static void clear_handle(enum rssi_fn fn, void *out)
{
    static const char *const handles[] = {"store", "subscription", "database", "redis"};
    const char *result = rssi_functions[fn].result;
    int is_handle = strncmp(result, "rows:", 5) == 0;
    size_t i;

    for (i = 0; i < sizeof handles / sizeof *handles && !is_handle; i++)
        is_handle = strcmp(result, handles[i]) == 0;
    if (is_handle && out != NULL)
        *(void **)out = NULL;
}

/* Under the GIL. NULL with a Python exception. */
static PyObject *call_python(const struct rssi_function *function, PyObject *object,
                             struct rssi_arguments *arguments)
{
    PyObject *given[RSSI_MOST_ARGUMENTS + 2], *result = NULL;
    int count = 1, i;

    given[0] = NULL; /* room that the call may use */
    if (object != NULL)
        given[count++] = Py_NewRef(object);
    for (i = 0; i < function->count; i++) {
        given[count] = rssi_argument(function, i, arguments);
        if (given[count] == NULL)
            break;
        count++;
    }
    if (i == function->count) {
        size_t by_place = (size_t)(count - 1) -
                          (function->keywords == NULL ? 0 : (size_t)PyTuple_GET_SIZE(function->keywords));

        result = PyObject_Vectorcall(function->callable, given + 1, by_place | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                     function->keywords);
    }
    while (count > 1)
        Py_DECREF(given[--count]);
    return result;
}

static int call(PyObject *object, const struct rssi_function *function, void *out,
                struct rssi_arguments *arguments)
{
    void **outs = function->part_count > 1 && out != NULL ? (void **)out : &out;
    void *nowhere[RSSI_MOST_PARTS] = {NULL};
    struct value values[RSSI_MOST_PARTS];
    PyGILState_STATE state;
    PyObject *result;
    int code, i;

    if (out == NULL)
        outs = nowhere;
    code = check_outputs(function, outs);
    if (code != RSS_OK)
        return code;
    state = rssi_take_gil();
    result = call_python(function, object, arguments);
    code = result == NULL ? -1 : collect(function, result, values);
    if (code < 0)
        code = rssi_take_exception();
    Py_XDECREF(result);
    PyGILState_Release(state);
    if (code != RSS_OK)
        return code;
    for (i = 0; i < function->part_count && code == RSS_OK; i++)
        code = deliver_part(&function->parts[i], &values[i], outs[i]);
    discard(function, values);
    return code;
}

int rssi_call_object(void *object, enum rssi_fn fn, void *out, ...)
{
    struct rssi_arguments arguments;
    int code;

    va_start(arguments.list, out);
    code = call(object, &rssi_functions[fn], out, &arguments);
    va_end(arguments.list);
    return code;
}

static int call_on(const void *handle, enum rssi_kind kind, enum rssi_fn fn, void *out,
                   struct rssi_arguments *arguments)
{
    struct rssi_guard guard;
    struct rssi_slot *slot;
    int code = rssi_enter(&guard, RSSI_IO);

    clear_handle(fn, out);
    if (code == RSS_OK && (code = rssi_acquire(handle, kind, &slot)) == RSS_OK) {
        code = call(slot->object, &rssi_functions[fn], out, arguments);
        rssi_release(slot);
    }
    return rssi_leave(&guard, code);
}

int rssi_call(const rss_store *store, enum rssi_fn fn, void *out, ...)
{
    struct rssi_arguments arguments;
    int code;

    va_start(arguments.list, out);
    code = call_on(store, RSSI_STORE, fn, out, &arguments);
    va_end(arguments.list);
    return code;
}

int rssi_call_on(const void *handle, enum rssi_kind kind, enum rssi_fn fn, void *out, ...)
{
    struct rssi_arguments arguments;
    int code;

    va_start(arguments.list, out);
    code = call_on(handle, kind, fn, out, &arguments);
    va_end(arguments.list);
    return code;
}

int rssi_call_free(enum rssi_fn fn, void *out, ...)
{
    struct rssi_arguments arguments;
    struct rssi_guard guard;
    int code = rssi_enter(&guard, RSSI_STARTS);

    clear_handle(fn, out);
    if (code == RSS_OK) {
        va_start(arguments.list, out);
        code = call(NULL, &rssi_functions[fn], out, &arguments);
        va_end(arguments.list);
    }
    return rssi_leave(&guard, code);
}
