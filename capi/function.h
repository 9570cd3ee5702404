/* The lines of functions.def, read at start. */
#ifndef RSSI_FUNCTION_H
#define RSSI_FUNCTION_H

#include <stdarg.h>

#include "records.h"

#define RSSI_MOST_ARGUMENTS 16
#define RSSI_MOST_PARTS 2

enum rssi_part_kind { RSSI_PART_INT, RSSI_PART_FLAG, RSSI_PART_TEXT, RSSI_PART_BYTES, RSSI_PART_SECRET, RSSI_PART_RECORD,
                      RSSI_PART_ROWS, RSSI_PART_HANDLE };

struct rssi_part {
    enum rssi_part_kind kind;
    int record;            /* of RECORD and ROWS */
    enum rssi_kind handle; /* of HANDLE */
};

struct rssi_function {
    const char *name, *path, *arguments, *result;
    PyObject *callable;
    PyObject *keywords; /* names of the last arguments, which go by name; NULL: all go by place */
    int count;          /* of arguments */
    char types[RSSI_MOST_ARGUMENTS];
    PyObject *names[RSSI_MOST_ARGUMENTS];
    struct rssi_part parts[RSSI_MOST_PARTS];
    int part_count;
    int may_be_none; /* None is RSS_NOTHING */
};

extern struct rssi_function rssi_functions[RSSI_FN_COUNT];

struct rssi_arguments {
    va_list list;
};

/* The next argument of the call as a Python object; NULL with a Python exception. */
PyObject *rssi_argument(const struct rssi_function *function, int number, struct rssi_arguments *arguments);
int rssi_arguments_boot(void);

#endif
