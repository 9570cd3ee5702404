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

/* Bytes that are no UTF-8 become what Python's own checks refuse, with the name of the value. */
static PyObject *text(const char *given)
{
    return given == NULL ? Py_NewRef(Py_None)
                         : PyUnicode_DecodeUTF8(given, (Py_ssize_t)strlen(given), "surrogateescape");
}

static PyObject *uuid(PyObject *name, const char *given)
{
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

PyObject *rssi_argument(const struct rssi_function *function, int number, struct rssi_arguments *arguments)
{
    PyObject *name = function->names[number], *object;
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
        if (integer == RSS_NONE)
            return Py_NewRef(Py_None);
        if (integer == RSS_KEEP_INT && function->types[number] == 'k')
            return Py_NewRef(unset);
        return PyLong_FromLongLong(integer);
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
        string = va_arg(arguments->list, const char *);
        return string == NULL ? Py_NewRef(Py_None) : PyBytes_FromString(string);
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
        return PyBytes_FromStringAndSize(string, (Py_ssize_t)va_arg(arguments->list, size_t));
    case 'z':
        string = (const char *)va_arg(arguments->list, const unsigned char *);
        return string == NULL ? Py_NewRef(Py_None) : PyBytes_FromStringAndSize(string, RSS_HASH_SIZE);
    case 'e':
        return expected(va_arg(arguments->list, int64_t));
    case 'o':
        object = va_arg(arguments->list, PyObject *);
        return Py_NewRef(object == NULL ? Py_None : object);
    default:
        PyErr_Format(PyExc_SystemError, "no argument has the type '%c'", function->types[number]);
        return NULL;
    }
}
