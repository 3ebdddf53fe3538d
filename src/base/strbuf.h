/* A string that grows, and what to say of a name that is not known. */
#ifndef LKS_BASE_STRBUF_H
#define LKS_BASE_STRBUF_H

#include <stdbool.h>
#include <stddef.h>

#include "lockstep/status.h"

/* Zero-initialise to start: `lks_strbuf s = {0};`. text is NUL-terminated and never NULL after the
 * first append. An append that runs out of memory sets `failed` and every later append does
 * nothing, so that the caller checks once. */
typedef struct lks_strbuf {
    char *text;
    size_t length;
    size_t capacity;
    bool failed;
} lks_strbuf;

void lks_strbuf_add(lks_strbuf *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void lks_strbuf_add_bytes(lks_strbuf *buffer, const char *bytes, size_t count);
/* Appends `text` as a JSON string, quotes included. */
void lks_strbuf_add_json(lks_strbuf *buffer, const char *text);
/* Appends a JSON number with 17 significant digits; null where it is not finite. */
void lks_strbuf_add_json_number(lks_strbuf *buffer, double value);
/* Append `, "key": value`, another member of an object that has one already. */
void lks_strbuf_add_text_member(lks_strbuf *buffer, const char *key, const char *value);
void lks_strbuf_add_number_member(lks_strbuf *buffer, const char *key, double value);
void lks_strbuf_free(lks_strbuf *buffer);

/* A copy of `text` (NULL gives NULL) or of printf's result; NULL when out of memory. The caller
 * frees it. */
char *lks_strdup(const char *text);
char *lks_strdup_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The candidate nearest to `name` by edit distance, or NULL if none is near enough to be what was
 * meant. */
const char *lks_nearest_name(const char *name, const char *const *candidates, size_t count);

/* LKS_ECONFIG, `unknown WHAT "NAME": did you mean "NEAREST"?`, or with all that are known where
 * none is near. */
lks_status lks_fail_unknown(const char *what, const char *name, const char *const *known,
                            size_t count);

/* Does `name` match the shell pattern (`*`, `?`, `[...]`)? */
bool lks_glob_match(const char *pattern, const char *name);

#endif
