/* The start of the Python half: reads functions.def, finds the Python functions, and what describes errors. */
#include "function.h"

#include "exchange.h"

#include <string.h>

struct rssi_function rssi_functions[RSSI_FN_COUNT] = {
#define F(name, path, arguments, result) {#name, path, arguments, result, NULL, NULL, 0, {0}, {NULL}, {{0, 0, 0}}, 0, 0},
#include "functions.def"
#undef F
};

static PyObject *describe; /* makes (code, message, sqlstate, constraint, field, retryable, outcome_unknown) */

static int wrong(const struct rssi_function *function, const char *what)
{
    PyErr_Format(PyExc_SystemError, "functions.def, %s: %s", function->name, what);
    return -1;
}

static PyObject *find(const char *path)
{
    const char *colon = strchr(path, ':');
    PyObject *module, *found;
    char name[128];

    snprintf(name, sizeof name, "rootstream_store.%.*s", (int)(colon - path), path);
    module = PyImport_ImportModule(name);
    found = module == NULL ? NULL : PyObject_GetAttrString(module, colon + 1);
    Py_XDECREF(module);
    return found;
}

static int read_arguments(struct rssi_function *function)
{
    const char *at = function->arguments;
    int by_place = -1, i;

    while (*at != '\0') {
        size_t length;

        if (*at == ' ' || *at == ',') {
            at++;
            continue;
        }
        if (*at == ';') {
            by_place = function->count;
            at++;
            continue;
        }
        if (function->count == RSSI_MOST_ARGUMENTS || at[1] != ' ')
            return wrong(function, "cannot read the arguments");
        function->types[function->count] = *at;
        at += 2;
        length = strcspn(at, " ,;");
        function->names[function->count] = PyUnicode_FromStringAndSize(at, (Py_ssize_t)length);
        if (function->names[function->count] == NULL)
            return -1;
        PyUnicode_InternInPlace(&function->names[function->count]);
        function->count++;
        at += length;
    }
    if (by_place < 0 || by_place == function->count)
        return 0;
    function->keywords = PyTuple_New(function->count - by_place);
    if (function->keywords == NULL)
        return -1;
    for (i = by_place; i < function->count; i++)
        PyTuple_SET_ITEM(function->keywords, i - by_place, Py_NewRef(function->names[i]));
    return 0;
}

static int read_part(struct rssi_function *function, const char *name, size_t length)
{
    static const struct {
        const char *name;
        struct rssi_part part;
    } known[] = {
        {"int", {RSSI_PART_INT, 0, 0}},
        {"flag", {RSSI_PART_FLAG, 0, 0}},
        {"text", {RSSI_PART_TEXT, 0, 0}},
        {"bytes", {RSSI_PART_BYTES, 0, 0}},
        {"secret", {RSSI_PART_SECRET, 0, 0}},
        {"store", {RSSI_PART_HANDLE, 0, RSSI_STORE}},
        {"subscription", {RSSI_PART_HANDLE, 0, RSSI_SUBSCRIPTION}},
        {"database", {RSSI_PART_HANDLE, 0, RSSI_DATABASE}},
        {"redis", {RSSI_PART_HANDLE, 0, RSSI_REDIS}},
    };
    struct rssi_part *part = &function->parts[function->part_count];
    size_t i;

    if (function->part_count == RSSI_MOST_PARTS)
        return wrong(function, "the result has too many parts");
    function->part_count++;
    for (i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].name) == length && memcmp(known[i].name, name, length) == 0) {
            *part = known[i].part;
            return 0;
        }
    part->kind = RSSI_PART_RECORD;
    if (length > 5 && memcmp(name, "rows:", 5) == 0) {
        part->kind = RSSI_PART_ROWS;
        name += 5;
        length -= 5;
    }
    part->record = rssi_record_find(name, length);
    return part->record < 0 ? wrong(function, "the result is not known") : 0;
}

static int read_result(struct rssi_function *function)
{
    const char *at = function->result;

    if (*at == '?') {
        function->may_be_none = 1;
        at++;
    }
    if (strcmp(at, "none") == 0)
        return 0;
    while (*at != '\0') {
        size_t length = strcspn(at, " ");

        if (read_part(function, at, length) < 0)
            return -1;
        at += length + (at[length] == ' ');
    }
    return 0;
}

static PyObject *begin(PyObject *module, int owns_python)
{
    PyObject *path = PyObject_GetAttrString(module, "PSYCOPG_MODULE"), *exchange, *done;
    const char *text = path == NULL ? NULL : PyUnicode_AsUTF8(path);

    exchange = text == NULL ? NULL : rssi_exchange_new(text);
    done = exchange == NULL ? NULL : PyObject_CallMethod(module, "begin", "iO", owns_python, exchange);
    Py_XDECREF(path);
    Py_XDECREF(exchange);
    return done;
}

static int boot(int owns_python)
{
    PyObject *module = PyImport_ImportModule("rootstream_store.capi._entry"), *done;
    int i;

    if (module == NULL)
        return -1;
    done = begin(module, owns_python);
    Py_XDECREF(done);
    Py_XSETREF(describe, done == NULL ? NULL : PyObject_GetAttrString(module, "describe"));
    Py_DECREF(module);
    if (describe == NULL || rssi_times_boot() < 0 || rssi_records_boot() < 0 || rssi_arguments_boot() < 0)
        return -1;
    for (i = 0; i < RSSI_FN_COUNT; i++) {
        struct rssi_function *function = &rssi_functions[i];

        if (function->callable != NULL) /* of a start that failed later on */
            continue;
        function->count = function->part_count = 0;
        if (read_arguments(function) < 0 || read_result(function) < 0 ||
            (function->callable = find(function->path)) == NULL)
            return -1;
    }
    return 0;
}

int rssi_boot(int owns_python)
{
    char text[1024];

    if (boot(owns_python) == 0)
        return RSS_OK;
    rssi_describe_exception(text, sizeof text);
    return rssi_error(RSS_E_INIT, "the package does not fit this library: %s", text);
}

void rssi_describe_exception(char *text, size_t size)
{
    PyObject *type, *value, *trace, *shown;
    const char *utf8 = NULL;

    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    shown = value == NULL ? NULL : PyUnicode_FromFormat("%s: %S", Py_TYPE(value)->tp_name, value);
    utf8 = shown == NULL ? NULL : PyUnicode_AsUTF8(shown);
    snprintf(text, size, "%s", utf8 == NULL ? "an error that cannot be shown" : utf8);
    PyErr_Clear();
    Py_XDECREF(shown);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
}

int rssi_take_exception(void)
{
    PyObject *type, *value, *trace, *told;
    const char *message, *sqlstate, *constraint, *field;
    int code = RSS_E_INTERNAL, retryable, outcome_unknown;

    PyErr_Fetch(&type, &value, &trace);
    if (type == NULL)
        return rssi_error(RSS_E_INTERNAL, "a call failed without an error");
    if (PyErr_GivenExceptionMatches(type, PyExc_MemoryError)) {
        code = rssi_error(RSS_E_NO_MEMORY, "out of memory");
    } else {
        PyErr_NormalizeException(&type, &value, &trace);
        if (value != NULL && trace != NULL)
            PyException_SetTraceback(value, trace);
        told = value == NULL ? NULL : PyObject_CallOneArg(describe, value);
        if (told != NULL && PyArg_ParseTuple(told, "issssii", &code, &message, &sqlstate, &constraint, &field,
                                             &retryable, &outcome_unknown))
            rssi_error_full(code, message, sqlstate, constraint, field, retryable, outcome_unknown);
        else
            code = rssi_error(RSS_E_INTERNAL, "an error that cannot be told: %s", Py_TYPE(value)->tp_name);
        PyErr_Clear();
        Py_XDECREF(told);
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    return code;
}
