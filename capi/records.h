/* From the records of the Python half to the structs of the header, by one table for each. */
#ifndef RSSI_RECORDS_H
#define RSSI_RECORDS_H

#include "core.h"
#include "python.h"

enum rssi_type { RSSI_INT, RSSI_FLAG, RSSI_F64, RSSI_TIME, RSSI_DATE, RSSI_TEXT, RSSI_UUID, RSSI_HASH, RSSI_JSON };

struct rssi_field {
    enum rssi_type type;
    size_t offset, size;
    size_t has;       /* where has_x is, of a text that may be none; 0: there is none */
    const char *name; /* of the record's attribute */
    PyObject *key;    /* the same, interned; set at start */
};

enum rssi_record_id {
#define RECORD(name) RSSI_REC_##name,
#include "records.def"
#undef RECORD
    RSSI_REC_COUNT
};

struct rssi_record {
    const char *name;
    size_t size;
    struct rssi_field *fields;
    int count;
};

extern const struct rssi_record rssi_records[RSSI_REC_COUNT];

/* Bytes that grow. */
struct rssi_buffer {
    char *data;
    size_t size, capacity;
    int is_heap;
};

int rssi_buffer_add(struct rssi_buffer *buffer, const void *bytes, size_t size);
void rssi_buffer_free(struct rssi_buffer *buffer);

/* Interns the names. 0, or -1 with a Python exception. */
int rssi_records_boot(void);
/* The record with this name; -1: there is none. */
int rssi_record_find(const char *name, size_t length);
/* Adds the values of a Python record in a compact form. -1 with a Python exception. */
int rssi_pack(const struct rssi_record *record, PyObject *row, struct rssi_buffer *buffer);
/* Writes a compact form into a caller's struct. RSS_E_MISUSE for a struct_size that cannot be. Takes no lock;
 * JSON texts point into `packed`. */
int rssi_unpack(const struct rssi_record *record, const char *packed, void *row);
/* All rows of a Python list, as the memory of a handle of kind RSSI_ROWS. NULL with a Python exception. */
void *rssi_rows_new(int record, PyObject *list);

/* µs since 1970. -1 with a Python exception. */
int rssi_time_out(PyObject *moment, int64_t *microseconds);
int rssi_date_out(PyObject *day, int64_t *microseconds);
/* NULL with a Python exception: no year from 1 to 9999. */
PyObject *rssi_time_in(int64_t microseconds);
PyObject *rssi_date_in(int64_t microseconds);
int rssi_times_boot(void);

#endif
