/* The lock, and HDF5's errors in our words. */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "h5/internal.h"

/* HDF5 is one library for the whole process and not thread-safe, so its lock is one for the whole
 * process, too. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

lks_h5_guard lks_h5_enter(void) {
    lks_h5_guard guard = {0};
    pthread_mutex_lock(&lock);
    H5Eget_auto2(H5E_DEFAULT, &guard.print, &guard.print_data);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return guard;
}

void lks_h5_leave(lks_h5_guard guard) {
    H5Eset_auto2(H5E_DEFAULT, guard.print, guard.print_data);
    pthread_mutex_unlock(&lock);
}

/* Keeps the innermost message, which says what really happened. The system's message inside it, if
 * there is one, is worth more than the file descriptor and buffer address around it. */
static herr_t keep_innermost(unsigned depth, const H5E_error2_t *error, void *data) {
    char *words = data;
    if (depth != 0 || error->desc == NULL) return 0;
    const char *mark = "error message = '";
    const char *system = strstr(error->desc, mark);
    const char *from = system != NULL ? system + strlen(mark) : error->desc;
    size_t length = system != NULL ? strcspn(from, "'") : strlen(from);
    snprintf(words, LKS_ERROR_BYTES / 4, "%.*s", (int)length, from);
    return 0;
}

lks_status lks_h5_fail(lks_status status, const char *format, ...) {
    char words[LKS_ERROR_BYTES / 4] = "no reason given";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, words);

    char what[LKS_ERROR_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return lks_fail(status, "%s (HDF5: %s)", what, words);
}
