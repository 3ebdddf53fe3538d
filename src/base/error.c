#include "base/error.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Like errno, the detail belongs to the thread in which the call failed. */
static _Thread_local char detail[LKS_ERROR_BYTES];

/* Formats aside first, because the arguments may point into `detail`. */
static void record(const char *suffix, const char *format, va_list arguments) {
    char text[LKS_ERROR_BYTES];
    int length = vsnprintf(text, sizeof text, format, arguments);
    if (length < 0) text[0] = '\0';
    if (suffix && length >= 0 && (size_t)length < sizeof text)
        snprintf(text + length, sizeof text - (size_t)length, ": %s", suffix);
    memcpy(detail, text, sizeof detail);
}

lks_status lks_fail(lks_status status, const char *format, ...) {
    assert(status != LKS_OK);
    va_list arguments;
    va_start(arguments, format);
    record(NULL, format, arguments);
    va_end(arguments);
    return status;
}

lks_status lks_fail_in(lks_status status, const char *format, ...) {
    assert(status != LKS_OK);
    va_list arguments;
    va_start(arguments, format);
    record(detail, format, arguments);
    va_end(arguments);
    return status;
}

const char *lks_last_error(void) {
    return detail;
}
