/* Of exchange.c. */
#ifndef RSSI_EXCHANGE_H
#define RSSI_EXCHANGE_H

#include "python.h"

/* What rootstream_store.database.exchange_by takes, for the libpq that the extension module in this file calls. None where
 * that cannot be told, or the file is no such module. NULL with a Python exception. */
PyObject *rssi_exchange_new(const char *psycopg_module);

#endif
