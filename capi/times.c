/* Times of Python and microseconds since 1970. */
#include "records.h"

#include <datetime.h>

#define SECOND INT64_C(1000000)
#define DAY (86400 * SECOND)

static PyObject *utc;      /* a time zone whose offset is known to be 0, besides datetime's own */
static PyObject *offset_of;

int rssi_times_boot(void)
{
    PyDateTime_IMPORT;
    if (PyDateTimeAPI == NULL)
        return -1;
    if (offset_of == NULL)
        offset_of = PyUnicode_InternFromString("utcoffset");
    return offset_of == NULL ? -1 : 0;
}

/* Days since 1970-01-01, in the calendar that goes on for ever both ways. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    int64_t era, year_of_era, day_of_year;

    year -= month <= 2;
    era = (year >= 0 ? year : year - 399) / 400;
    year_of_era = year - era * 400;
    day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static void date_of(int64_t days, int *year, int *month, int *day)
{
    int64_t era, day_of_era, year_of_era, day_of_year, shifted;

    days += 719468;
    era = (days >= 0 ? days : days - 146096) / 146097;
    day_of_era = days - era * 146097;
    year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    shifted = (5 * day_of_year + 2) / 153;
    *day = (int)(day_of_year - (153 * shifted + 2) / 5 + 1);
    *month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
    *year = (int)(year_of_era + era * 400 + (*month <= 2));
}

static int offset(PyObject *moment, int64_t *microseconds)
{
    PyObject *zone = PyDateTime_DATE_GET_TZINFO(moment), *delta;

    *microseconds = 0;
    if (zone == PyDateTime_TimeZone_UTC || zone == utc || zone == Py_None)
        return 0;
    delta = PyObject_CallMethodNoArgs(moment, offset_of);
    if (delta == NULL)
        return -1;
    if (PyDelta_Check(delta))
        *microseconds = PyDateTime_DELTA_GET_DAYS(delta) * DAY + PyDateTime_DELTA_GET_SECONDS(delta) * SECOND +
                        PyDateTime_DELTA_GET_MICROSECONDS(delta);
    Py_DECREF(delta);
    if (*microseconds == 0 && utc == NULL) {
        /* The connections' zone is UTC: look once. Another zone that has no offset now may have one later. */
        PyObject *key = PyObject_GetAttrString(zone, "key");

        if (key != NULL && PyUnicode_Check(key) && PyUnicode_CompareWithASCIIString(key, "UTC") == 0)
            utc = Py_NewRef(zone);
        Py_XDECREF(key);
        PyErr_Clear();
    }
    return 0;
}

int rssi_time_out(PyObject *moment, int64_t *microseconds)
{
    int64_t shift;

    if (!PyDateTime_Check(moment)) {
        PyErr_SetString(PyExc_TypeError, "a time was expected");
        return -1;
    }
    if (offset(moment, &shift) < 0)
        return -1;
    *microseconds =
        days_of(PyDateTime_GET_YEAR(moment), PyDateTime_GET_MONTH(moment), PyDateTime_GET_DAY(moment)) * DAY +
        (PyDateTime_DATE_GET_HOUR(moment) * 3600 + PyDateTime_DATE_GET_MINUTE(moment) * 60 +
         PyDateTime_DATE_GET_SECOND(moment)) *
            SECOND +
        PyDateTime_DATE_GET_MICROSECOND(moment) - shift;
    return 0;
}

int rssi_date_out(PyObject *day, int64_t *microseconds)
{
    if (!PyDate_Check(day)) {
        PyErr_SetString(PyExc_TypeError, "a date was expected");
        return -1;
    }
    *microseconds = days_of(PyDateTime_GET_YEAR(day), PyDateTime_GET_MONTH(day), PyDateTime_GET_DAY(day)) * DAY;
    return 0;
}

static int split(int64_t microseconds, int64_t *days, int64_t *rest)
{
    *days = microseconds / DAY - (microseconds % DAY < 0);
    *rest = microseconds % DAY + (microseconds % DAY < 0 ? DAY : 0);
    return *days >= days_of(1, 1, 1) && *days <= days_of(9999, 12, 31);
}

PyObject *rssi_time_in(int64_t microseconds)
{
    int64_t days, rest, seconds;
    int year, month, day;

    if (!split(microseconds, &days, &rest)) {
        PyErr_SetString(PyExc_OverflowError, "must lie in the years 1 to 9999");
        return NULL;
    }
    date_of(days, &year, &month, &day);
    seconds = rest / SECOND;
    return PyDateTimeAPI->DateTime_FromDateAndTime(year, month, day, (int)(seconds / 3600),
                                                   (int)(seconds / 60 % 60), (int)(seconds % 60),
                                                   (int)(rest % SECOND), PyDateTime_TimeZone_UTC,
                                                   PyDateTimeAPI->DateTimeType);
}

PyObject *rssi_date_in(int64_t microseconds)
{
    int64_t days, rest;
    int year, month, day;

    if (!split(microseconds, &days, &rest)) {
        PyErr_SetString(PyExc_OverflowError, "must lie in the years 1 to 9999");
        return NULL;
    }
    date_of(days, &year, &month, &day);
    return PyDate_FromDate(year, month, day);
}
