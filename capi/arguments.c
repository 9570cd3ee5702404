/* From C arguments to Python objects. */
#include "function.h"

#include <string.h>

static PyObject *unset, *invalid, *make_uuid, *make_span, *modes[3];

int rssi_arguments_boot(void)
{
    static const struct {
        PyObject **object;
        const char *name;
    } wanted[] = {{&unset, "UNSET"},       {&invalid, "invalid"},     {&make_uuid, "make_uuid"},
                  {&make_span, "timedelta"}, {&modes[0], "ANY"},        {&modes[1], "NO_STREAM"},
                  {&modes[2], "EXISTS"}};
    PyObject *module = PyImport_ImportModule("rootstream_store.capi._entry");
    size_t i;

    for (i = 0; module != NULL && i < sizeof wanted / sizeof *wanted; i++) {
        Py_XSETREF(*wanted[i].object, PyObject_GetAttrString(module, wanted[i].name));
        if (*wanted[i].object == NULL)
            Py_CLEAR(module);
    }
    if (module == NULL)
        return -1;
    Py_DECREF(module);
    return 0;
}

/* Raises InvalidInput for this argument. */
static PyObject *refuse(PyObject *name, const char *rule)
{
    PyErr_Clear();
    Py_XDECREF(PyObject_CallFunction(invalid, "Os", name, rule));
    return NULL;
}

/* RSS_KEEP is no address: where there is nothing to keep it is refused, as anything else that is no text. */
static PyObject *refuse_keep(void)
{
    Py_XDECREF(PyObject_CallFunction(invalid, "ss", "text", "must not be RSS_KEEP: this value is not one that can be left"));
    return NULL;
}

/* Bytes that are no UTF-8 become what Python's own checks refuse, with the name of the value. */
static PyObject *text(const char *given)
{
    if (given == RSS_KEEP)
        return refuse_keep();
    return given == NULL ? Py_NewRef(Py_None)
                         : PyUnicode_DecodeUTF8(given, (Py_ssize_t)strlen(given), "surrogateescape");
}

static PyObject *uuid(PyObject *name, const char *given)
{
    if (given == RSS_KEEP)
        return refuse_keep();
    return given == NULL ? Py_NewRef(Py_None) : PyObject_CallFunction(make_uuid, "Oy", name, given);
}

static PyObject *in_years(PyObject *name, PyObject *made)
{
    return made == NULL && PyErr_ExceptionMatches(PyExc_OverflowError)
               ? refuse(name, "must be a time in the years 1 to 9999")
               : made;
}

static PyObject *span(PyObject *name, int64_t seconds)
{
    PyObject *made = PyObject_CallFunction(make_span, "iL", 0, (long long)seconds);

    return made == NULL && PyErr_ExceptionMatches(PyExc_OverflowError)
               ? refuse(name, "must be a time span that Python can hold")
               : made;
}

static PyObject *expected(int64_t version)
{
    return version < 0 && version >= -3 ? Py_NewRef(modes[-version - 1]) : PyLong_FromLongLong(version);
}

/* A copy of the caller's struct; what their header did not have yet is as in `defaults`. */
static void read_struct(void *to, const void *defaults, size_t size, const char *given)
{
    size_t theirs = *(const size_t *)(const void *)given;

    memcpy(to, defaults, size);
    memcpy(to, given, theirs < size ? theirs : size);
}

static PyObject *json(const char *given)
{
    if (given == RSS_KEEP)
        return refuse_keep();
    return given == NULL ? Py_NewRef(Py_None) : PyBytes_FromString(given);
}

static PyObject *bytes(PyObject *name, const char *given, size_t size)
{
    if (size > (size_t)PY_SSIZE_T_MAX || (given == NULL && size > 0))
        return refuse(name, "has a size that its bytes cannot have");
    return PyBytes_FromStringAndSize(given, (Py_ssize_t)size);
}

static PyObject *number_or_none(int64_t number)
{
    return number == RSS_NONE ? Py_NewRef(Py_None) : PyLong_FromLongLong(number);
}

/* A tuple of these values; takes their references over. NULL where one of them is. */
static PyObject *tuple(PyObject **values, int count)
{
    PyObject *made = PyTuple_New(count);
    int i, failed = made == NULL;

    for (i = 0; i < count; i++)
        failed |= values[i] == NULL;
    for (i = 0; i < count; i++)
        if (failed)
            Py_XDECREF(values[i]);
        else
            PyTuple_SET_ITEM(made, i, values[i]);
    if (failed)
        Py_CLEAR(made);
    return made;
}

/* The name of a field for errors: "event_id", or of a list "events[2].event_id". */
static PyObject *field_name(PyObject *list, int64_t index, const char *field)
{
    return list == NULL ? PyUnicode_FromString(field) : PyUnicode_FromFormat("%U[%lld].%s", list, (long long)index, field);
}

/* Nothing more is asked of Python once it has raised. */
#define UNLESS_FAILED(make) (PyErr_Occurred() ? NULL : (make))

static PyObject *new_event(const char *given, PyObject *list, int64_t index)
{
    static const rss_new_event defaults = RSS_NEW_EVENT_INIT;
    PyObject *values[7] = {NULL}, *name = field_name(list, index, "event_id");
    rss_new_event event;

    if (name == NULL)
        return NULL;
    read_struct(&event, &defaults, sizeof event, given);
    values[0] = UNLESS_FAILED(text(event.event_type));
    values[1] = UNLESS_FAILED(json(event.data_json));
    values[2] = UNLESS_FAILED(json(event.metadata_json));
    values[3] = UNLESS_FAILED(number_or_none(event.user_id));
    values[4] = UNLESS_FAILED(uuid(name, event.event_id));
    values[5] = UNLESS_FAILED(text(event.correlation_id));
    values[6] = UNLESS_FAILED(text(event.causation_id));
    Py_DECREF(name);
    return tuple(values, 7);
}

static PyObject *usage_entry(const char *given, PyObject *list, int64_t index)
{
    static const rss_usage_entry defaults = RSS_USAGE_ENTRY_INIT;
    PyObject *values[6] = {NULL}, *name = field_name(list, index, "created_at");
    rss_usage_entry entry;

    if (name == NULL)
        return NULL;
    read_struct(&entry, &defaults, sizeof entry, given);
    values[0] = UNLESS_FAILED(PyLong_FromLongLong(entry.user_id));
    values[1] = UNLESS_FAILED(text(entry.event_type));
    values[2] = UNLESS_FAILED(number_or_none(entry.stream_id));
    values[3] = UNLESS_FAILED(PyLong_FromLongLong(entry.bytes_transferred));
    values[4] = UNLESS_FAILED(PyLong_FromLongLong(entry.duration_seconds));
    values[5] = UNLESS_FAILED(entry.created_at == RSS_NONE ? Py_NewRef(Py_None)
                                                           : in_years(name, rssi_time_in(entry.created_at)));
    Py_DECREF(name);
    return tuple(values, 6);
}

static PyObject *refuse_size(PyObject *list, int64_t index)
{
    PyObject *name = field_name(list, index, "struct_size");

    if (name != NULL)
        refuse(name, "must be the same in all of an array");
    Py_XDECREF(name);
    return NULL;
}

/* A list of structs, which are as far apart as the first one says that it is long. */
static PyObject *array(PyObject *name, const char *first, size_t count,
                       PyObject *(*read)(const char *given, PyObject *list, int64_t index))
{
    const size_t size = count == 0 ? 1 : *(const size_t *)(const void *)first;
    PyObject *made;
    size_t i;

    if (count > (size_t)PY_SSIZE_T_MAX / size)
        return refuse(name, "has a count that no memory can hold");
    made = PyList_New((Py_ssize_t)count);
    for (i = 0; made != NULL && i < count; i++) {
        const char *given = first + i * size;
        PyObject *item = *(const size_t *)(const void *)given == size ? read(given, name, (int64_t)i)
                                                                      : refuse_size(name, (int64_t)i);

        if (item == NULL)
            Py_CLEAR(made);
        else
            PyList_SET_ITEM(made, (Py_ssize_t)i, item);
    }
    return made;
}

PyObject *rssi_argument(const struct rssi_function *function, int number, struct rssi_arguments *arguments)
{
    PyObject *name = function->names[number];
    const char *string;
    int64_t integer;
    double real;
    int flag;

    switch (function->types[number]) {
    case 'l':
        return PyLong_FromLongLong(va_arg(arguments->list, int64_t));
    case 'n':
    case 'k':
        integer = va_arg(arguments->list, int64_t);
        if (integer == RSS_KEEP_INT && function->types[number] == 'k')
            return Py_NewRef(unset);
        return number_or_none(integer);
    case 'f':
    case 'h':
        real = va_arg(arguments->list, double);
        if (real == RSS_NONE_F64)
            return Py_NewRef(Py_None);
        if (real == RSS_KEEP_F64 && function->types[number] == 'h')
            return Py_NewRef(unset);
        return PyFloat_FromDouble(real);
    case 'b':
    case 'g':
        flag = va_arg(arguments->list, int);
        if (flag == RSS_KEEP_FLAG && function->types[number] == 'g')
            return Py_NewRef(unset);
        return PyBool_FromLong(flag);
    case 's':
        return text(va_arg(arguments->list, const char *));
    case 'v':
        string = va_arg(arguments->list, const char *);
        return string == RSS_KEEP ? Py_NewRef(unset) : text(string);
    case 'j':
        return json(va_arg(arguments->list, const char *));
    case 'u':
        return uuid(name, va_arg(arguments->list, const char *));
    case 't':
    case 'm':
        integer = va_arg(arguments->list, int64_t);
        if (integer == RSS_NONE)
            return Py_NewRef(Py_None);
        return in_years(name, function->types[number] == 't' ? rssi_time_in(integer) : rssi_date_in(integer));
    case 'w':
        return span(name, va_arg(arguments->list, int64_t));
    case 'y':
        string = va_arg(arguments->list, const void *);
        return bytes(name, string, va_arg(arguments->list, size_t));
    case 'z':
        string = (const char *)va_arg(arguments->list, const unsigned char *);
        return string == NULL ? Py_NewRef(Py_None) : PyBytes_FromStringAndSize(string, RSS_HASH_SIZE);
    case 'e':
        return expected(va_arg(arguments->list, int64_t));
    case 'N':
        return new_event((const char *)va_arg(arguments->list, const rss_new_event *), NULL, 0);
    case 'E':
        string = (const char *)va_arg(arguments->list, const rss_new_event *);
        return array(name, string, va_arg(arguments->list, size_t), new_event);
    case 'U':
        string = (const char *)va_arg(arguments->list, const rss_usage_entry *);
        return array(name, string, va_arg(arguments->list, size_t), usage_entry);
    default:
        PyErr_Format(PyExc_SystemError, "no argument has the type '%c'", function->types[number]);
        return NULL;
    }
}
