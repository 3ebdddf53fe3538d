/* A run file: one YAML text is the whole experiment. It is checked completely, key by key against
 * the option tables, before anything is opened. */
#ifndef LKS_APP_RUN_FILE_H
#define LKS_APP_RUN_FILE_H

#include "app/arena.h"
#include "app/sections.h"
#include "lockstep/lockstep.h"

/* A value from the command line that takes the place of what stands in the file. */
typedef struct lks_override {
    const char
        *source;       /* for messages: "--output"; NULL: made from the key, "--set optimizer.lr" */
    const char *key;   /* "optimizer.lr", "model.layers.0.out_channels" */
    const char *value; /* YAML, or a plain text */
    bool is_text;
} lks_override;

/* All memory that it points to is its own. */
typedef struct lks_run {
    lks_train_config config; /* run_file: the resolved text; callbacks are not set */
    lks_machine_settings machine;
    int64_t memory_bytes;       /* budget of one data set in memory */
    lks_spec train, validation; /* type NULL where it is not given */
    lks_shape input;            /* rank 0 where it is not given */
    const lks_layer_spec *layers;
    const char *init_from;                  /* a checkpoint to begin with the weights of, or NULL */
    const char *init_params, *init_exclude; /* as lks_trainer_init_from takes them */
    lks_arena arena;
} lks_run;

/* path: for messages, and the folder to which data paths are relative. LKS_ECONFIG names file and
 * line, or the override, what was given and what is expected; LKS_EUSAGE for an override that has
 * no place; LKS_ENOMEM. On failure *out is free. */
lks_status lks_run_parse(const char *path, const char *text, const lks_override *overrides,
                         int count, lks_run *out);
/* lks_run_parse over the file at path. */
lks_status lks_run_load(const char *path, const lks_override *overrides, int count, lks_run *out);
void lks_run_free(lks_run *run);

/* The whole file as a NUL-terminated text; the caller frees it. LKS_EIO, LKS_ECONFIG for one that
 * is no text or far too long. */
lks_status lks_run_read_text(const char *path, char **out);

#endif
