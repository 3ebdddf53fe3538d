/* The option tables of a run: the scalars of lks_train_config, and when checkpoints are written. */
#ifndef LKS_TRAIN_OPTIONS_H
#define LKS_TRAIN_OPTIONS_H

#include "base/base.h"

/* Over the scalars of lks_train_config. The struct of a table starts zeroed but for the members
 * that it has an option for; LKS_TRAIN_CONFIG_DEFAULT agrees with the defaults (a test says so). */
extern const lks_option_table lks_train_options;

/* What is done to gradients between their sum over the ranks and the update. */
typedef struct lks_gradient_settings {
    double clip_norm; /* largest norm of all gradients together; 0: not clipped */
    int norm_type;    /* index into lks_norm_type_names, an lks_norm_kind */
    double
        clip_value; /* largest magnitude of one element, applied after clip_norm; 0: not clipped */
    int on_nonfinite;    /* 0 error, 1 skip: a norm that is not finite */
    int64_t max_skipped; /* steps skipped in a row before giving up */
} lks_gradient_settings;
enum { LKS_NONFINITE_ERROR, LKS_NONFINITE_SKIP };
extern const lks_option_table lks_gradient_settings_options;

/* When checkpoints are written, and which are kept. */
typedef struct lks_checkpoint_settings {
    int64_t every_epochs, every_steps; /* 0: never */
    double every_minutes;
    int64_t keep_last; /* of those; 0: all */
    bool best, final;
    int64_t keep_best; /* at least 1 */
    int monitor;       /* of `best`: index into lks_monitor_names */
    int on_error;      /* 0 continue, 1 stop */
    int transfer;      /* an lks_transfer */
    bool async;        /* a thread writes while training goes on */
} lks_checkpoint_settings;
enum { LKS_SAVE_ERROR_CONTINUE, LKS_SAVE_ERROR_STOP };
extern const lks_option_table lks_checkpoint_settings_options;
/* From options text, NULL for the defaults: every epoch, where `every` is not given at all.
 * LKS_ECONFIG. */
lks_status lks_checkpoint_settings_parse(const char *text, lks_checkpoint_settings *out);

/* Weights that another run begins with; patterns as of lks_trainer_init_from. */
typedef struct lks_init_from_settings {
    char *path;
} lks_init_from_settings;
extern const lks_option_table lks_init_from_options;

#endif
