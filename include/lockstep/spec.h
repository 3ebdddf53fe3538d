/* How a program says which layer, optimizer, schedule, loss or data set it wants: a type's name and
 * its options as text. */
#ifndef LOCKSTEP_SPEC_H
#define LOCKSTEP_SPEC_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { LKS_MAX_DIMS = 6 };

/* The shape of one sample (without the batch) or of a parameter. Images are [channels, height,
 * width]. */
typedef struct lks_shape {
    int rank;
    int64_t dim[LKS_MAX_DIMS];
} lks_shape;

/* One thing chosen by its type's name. The options are PyTorch's, as text: `key=value` separated by
 * blanks; a value with blanks is put in double quotes (backslash escapes a quote); a list is
 * `[1,2]`. docs/config.md lists every type with its options.
 *
 *     lks_spec optimizer = {.type = "adamw", .options = "lr=1e-3 weight_decay=0.01"};
 */
typedef struct lks_spec {
    const char *type;
    const char *options; /* NULL: all defaults */
    const char *where;   /* put in front of error messages, such as "run.yaml:12"; may be NULL */
} lks_spec;

/* A layer. A list of layers ends with an all-zero element; `name` NULL gives the layer its index in
 * the list, as nn.Sequential does. `block` and `shortcut` are the inner lists of containers
 * (residual: output = block(x) + shortcut(x)).
 *
 *     const lks_layer_spec layers[] = {
 *         {.type = "linear", .name = "fc1", .options = "out_features=64"},
 *         {.type = "relu"},
 *         {.type = "linear", .name = "fc2", .options = "out_features=10"},
 *         {0},
 *     };
 */
typedef struct lks_layer_spec {
    const char *type;
    const char *name;
    const char *options;
    const char *where;
    const struct lks_layer_spec *block;
    const struct lks_layer_spec *shortcut;
} lks_layer_spec;

#ifdef __cplusplus
}
#endif
#endif
