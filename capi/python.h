/* Of the parts that touch Python. */
#ifndef RSSI_PYTHON_H
#define RSSI_PYTHON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Takes the GIL; the thread's state is kept until the thread ends. Give back with PyGILState_Release. */
PyGILState_STATE rssi_take_gil(void);
/* Before a wait for threads that need the GIL: gives it up where this thread, one of the host's Python, came with it. NULL:
 * it did not. */
void *rssi_give_up_gil(void);
/* Takes it back, where it was given up. */
void rssi_take_back_gil(void *held);
/* Gives up a reference, taking the GIL for it. */
void rssi_drop_object(void *object);
/* Makes the pending Python exception the thread's last error, and returns its code. */
int rssi_take_exception(void);
/* The text of the pending Python exception, which is cleared, cut to `size`. */
void rssi_describe_exception(char *text, size_t size);
/* In the file that cffi makes: its start, and a function whose first call gives a thread a state for good. */
int rssi_cffi_start(void);
void rssi_attach(void);

#endif
