/* What the tests of run files share: a run file with every section, and how it is parsed. */
#ifndef LKS_TESTS_RUN_FILE_CASE_H
#define LKS_TESTS_RUN_FILE_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app/run_file.h"

static const char good[] =
    "seed: 7\n"                                                  /* 1 */
    "epochs: 3\n"                                                /* 2 */
    "batch_size: 1_024\n"                                        /* 3 */
    "device: cpu\n"                                              /* 4 */
    "threads: 2\n"                                               /* 5 */
    "bucket_bytes: 2MiB\n"                                       /* 6 */
    "output: \"my runs/1\"\n"                                    /* 7 */
    "data:\n"                                                    /* 8 */
    "  train: {type: hdf5, file: d.h5, inputs: x, targets: y}\n" /* 9 */
    "  validation: {type: hdf5, file: /data/v.h5, inputs: x}\n"  /* 10 */
    "  scale: 0.5\n"                                             /* 11 */
    "  mean: [0.1, 0.2]\n"                                       /* 12 */
    "model:\n"                                                   /* 13 */
    "  input: [1, 8, 8]\n"                                       /* 14 */
    "  layers:\n"                                                /* 15 */
    "    - {type: conv2d, name: conv1, out_channels: 4, kernel_size: [3, 5]}\n"
    "    - relu\n"                                                /* 17 */
    "    - type: residual\n"                                      /* 18 */
    "      block:\n"                                              /* 19 */
    "        - {type: conv2d, out_channels: 4, kernel_size: 1}\n" /* 20 */
    "        - relu\n"                                            /* 21 */
    "      shortcut: [{type: conv2d, out_channels: 4, kernel_size: 1}]\n"
    "    - flatten\n"                                     /* 23 */
    "    - {type: linear, out_features: 10}\n"            /* 24 */
    "loss: {type: cross_entropy, label_smoothing: 0.1}\n" /* 25 */
    "optimizer: {type: sgd, lr: 1e-2, momentum: 0.9}\n"   /* 26 */
    "schedule: {type: step, step_size: 10, gamma: 0.5}\n" /* 27 */
    "early_stopping: {patience: 5}\n"                     /* 28 */
    "checkpoint:\n"                                       /* 29 */
    "  every: {epochs: 2}\n";                             /* 30 */

/* Fails the test where the text is refused. */
static inline lks_run parsed(const char *path, const char *text) {
    lks_run run;
    if (lks_run_parse(path, text, NULL, 0, &run)) fail_msg("%s", lks_last_error());
    return run;
}

/* The shortest one. */
static const char least[] = "model: {layers: [relu]}\n";

#endif
