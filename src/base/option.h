/* Option tables: one table per struct drives parsing, validation, --help, the reference page and
 * the resolved copy. */
#ifndef LKS_BASE_OPTION_H
#define LKS_BASE_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/strbuf.h"
#include "lockstep/status.h"

/* The type of an option, and of the struct's member that holds it. */
typedef enum lks_option_type {
    LKS_OPTION_BOOL = 1, /* bool: true, false (yes, no, on, off) */
    LKS_OPTION_INT,      /* int64_t: 12, 1_000_000 */
    LKS_OPTION_FLOAT,    /* double: 1e-3, 0.5, inf */
    LKS_OPTION_STRING,   /* char *, owned by the struct, NULL when not given and without default */
    LKS_OPTION_PATH,     /* as STRING; the run file resolves it relative to its own folder */
    LKS_OPTION_CHOICE,   /* int: the index into `choices` */
    LKS_OPTION_BYTES,    /* int64_t: 25MiB, 1GiB, 4096 */
    LKS_OPTION_DURATION, /* double, seconds: 90s, 30min, 12h, 1:30:00 */
    LKS_OPTION_INT_PAIR, /* int64_t[2]: 3 or [3, 5]; one number stands for both */
    LKS_OPTION_FLOAT_PAIR, /* double[2]: [0.9, 0.999] */
    LKS_OPTION_INT_LIST,   /* lks_int_list */
    LKS_OPTION_FLOAT_LIST, /* lks_float_list */
    LKS_OPTION_SPEC_LIST   /* lks_text_list: things of a registry, each "TYPE key=value ..." */
} lks_option_type;

typedef struct lks_int_list {
    int64_t *values;
    int count;
} lks_int_list;

typedef struct lks_float_list {
    double *values;
    int count;
} lks_float_list;

typedef struct lks_text_list {
    char **values; /* each owned by the list */
    int count;
} lks_text_list;

/* One option. `text` is the default in the form a user would write it; NULL: required unless
 * `optional`. A number must satisfy low <= value <= high, or low < value / value < high where the
 * bound is open; low == high == 0 means no bound. */
typedef struct lks_option {
    const char *key;
    lks_option_type type;
    size_t offset;
    const char *text;
    double low, high;
    bool low_open, high_open;
    bool optional;
    const char *const *choices; /* ended by NULL */
    const char *word; /* of a BYTES, or an INT_PAIR's number: what is written for word_value,
                         whatever the bounds; NULL: none */
    int64_t word_value;
    const char *section; /* of a SPEC_LIST: whose types its elements are, "schedule" */
    const char *help;    /* one sentence, units included */
} lks_option;

/* The options of one struct; `options` ends with an all-zero element. */
typedef struct lks_option_table {
    const char *name; /* "conv2d", "adamw" ... */
    const char *help; /* one sentence */
    size_t struct_bytes;
    const lks_option *options;
} lks_option_table;

/* Fills a struct with the defaults (strings and lists are allocated; required members are zero). */
lks_status lks_options_init(const lks_option_table *table, void *config);

/* The option called `key`, or NULL. */
const lks_option *lks_options_find(const lks_option_table *table, const char *key);

/* Sets one option from its text: one value for a scalar, several for a list or pair; as_list: it
 * was written as a list ([3]), which a scalar refuses even with one element. LKS_ECONFIG with what
 * was given and what is expected ("lr: -1 is out of range: expected a number >= 0"). */
lks_status lks_option_assign(const lks_option *option, void *config, const char *const *values,
                             int count, bool as_list);

/* The text form `key=value ...` of lks_spec into a struct: lks_options_init, each option set, the
 * required ones checked, duplicates refused. On failure the struct is freed. text NULL is "".
 * `what` names the thing in messages: "layer conv1 (conv2d)". */
lks_status lks_options_parse(const lks_option_table *table, void *config, const char *text,
                             const char *what);

/* Sets the options that `text` names in a struct that is already filled; duplicates within the text
 * are refused. *given: bit i = option i of the table was named. On failure the struct stays to be
 * freed by the caller. */
lks_status lks_options_override(const lks_option_table *table, void *config, const char *text,
                                uint64_t *given);

/* LKS_ECONFIG naming every required option whose bit is not in `given` (bit i = option i of the
 * table). */
lks_status lks_options_check_required(const lks_option_table *table, uint64_t given);

/* Frees the strings and lists of a struct and sets them to NULL. */
void lks_options_free(const lks_option_table *table, void *config);

/* One option's present value in the form a user would write it in YAML flow style: 0.1, [3, 5], "a
 * b". */
void lks_option_print(const lks_option *option, const void *config, lks_strbuf *out);

/* What an option takes, for help and the reference page: "a number >= 0", "one of: mean, sum". */
void lks_option_print_expected(const lks_option *option, lks_strbuf *out);

/* Appends `key=value` in lks_spec's text form, quoted where needed; a list when count != 1 or
 * as_list. */
void lks_options_append_text(lks_strbuf *out, const char *key, const char *const *values, int count,
                             bool as_list);

#endif
