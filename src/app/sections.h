/* The sections of a run file, each with the table or registry that says what may stand in it: for
 * parsing, `lockstep help` and docs/config.md alike. */
#ifndef LKS_APP_SECTIONS_H
#define LKS_APP_SECTIONS_H

#include "base/base.h"

typedef struct lks_section {
    const char *key;  /* in the run file; NULL: the top level */
    const char *name; /* for `lockstep help NAME` */
    const char *help; /* a sentence or more */
    const char *example;
    /* Either one table, */
    const lks_option_table *table;
    /* or a registry of types. */
    const char *(*type)(int index);
    const lks_option_table *(*options)(const char *type);
} lks_section;

/* In the order of a run file. NULL after the last. */
const lks_section *lks_section_at(int index);
/* By its name, or NULL. */
const lks_section *lks_section_find(const char *name);
/* The type's option table. Unknown: LKS_ECONFIG with the nearest known one. */
lks_status lks_section_type(const lks_section *section, const char *type,
                            const lks_option_table **out);

/* What the run file says about the machine rather than about the training. */
typedef struct lks_machine_settings {
    int device; /* index into lks_device_names */
    int64_t threads;
    int precision;        /* index into lks_precision_names */
    double stall_timeout; /* seconds; 0: no guard */
} lks_machine_settings;
extern const char *const lks_device_names[]; /* "auto", "cpu", "cuda", NULL */
extern const lks_option_table lks_machine_options;

#endif
