/* The registry of losses: a new loss is its options and a line in the table. */
#include <string.h>

#include "engine/engine.h"
#include "engine/layer.h"

typedef struct loss_config {
    double label_smoothing, delta;
    int64_t ignore_index;
} loss_config;

static const lks_option cross_entropy_options[] = {
    {.key = "label_smoothing",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(loss_config, label_smoothing),
     .text = "0",
     .low = 0,
     .high = 1,
     .help = "Share of the target's probability that is spread evenly over all classes."},
    {.key = "ignore_index",
     .type = LKS_OPTION_INT,
     .offset = offsetof(loss_config, ignore_index),
     .text = "-100",
     .low = INT32_MIN,
     .high = INT32_MAX,
     .help = "Label of samples that are left out of the loss and the accuracy."},
    {0},
};

static const lks_option huber_options[] = {
    {.key = "delta",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(loss_config, delta),
     .text = "1",
     .low = 0,
     .high = 1e30,
     .low_open = true,
     .help = "Distance from the target at which the loss goes from quadratic to linear."},
    {0},
};

static const lks_option no_options[] = {{0}};

typedef struct loss_kind {
    lks_option_table table;
    lks_loss_kind kind;
    bool targets_are_classes;
} loss_kind;

static const loss_kind loss_kinds[] = {
    {{.name = "cross_entropy",
      .help = "Classification: -log softmax(output)[label] (torch.nn.CrossEntropyLoss).",
      .struct_bytes = sizeof(loss_config),
      .options = cross_entropy_options},
     LKS_LOSS_CROSS_ENTROPY,
     true},
    {{.name = "mse",
      .help = "Regression: the mean of (output - target)^2 (torch.nn.MSELoss).",
      .struct_bytes = sizeof(loss_config),
      .options = no_options},
     LKS_LOSS_MSE,
     false},
    {{.name = "l1",
      .help = "Regression: the mean of |output - target| (torch.nn.L1Loss).",
      .struct_bytes = sizeof(loss_config),
      .options = no_options},
     LKS_LOSS_L1,
     false},
    {{.name = "huber",
      .help = "Regression: quadratic near the target, linear away from it (torch.nn.HuberLoss).",
      .struct_bytes = sizeof(loss_config),
      .options = huber_options},
     LKS_LOSS_HUBER,
     false},
    {{.name = "bce_with_logits",
      .help = "Yes-or-no targets in 0 .. 1: binary cross-entropy of sigmoid(output) "
              "(torch.nn.BCEWithLogitsLoss).",
      .struct_bytes = sizeof(loss_config),
      .options = no_options},
     LKS_LOSS_BCE_WITH_LOGITS,
     false},
};

enum { LOSS_KIND_COUNT = sizeof loss_kinds / sizeof loss_kinds[0] };

static const loss_kind *find_loss(const char *type) {
    for (int i = 0; type != NULL && i < LOSS_KIND_COUNT; i++) {
        if (strcmp(loss_kinds[i].table.name, type) == 0) return &loss_kinds[i];
    }
    return NULL;
}

const lks_option_table *lks_loss_options(const char *type) {
    const loss_kind *found = find_loss(type);
    return found != NULL ? &found->table : NULL;
}

const char *lks_loss_type(int index) {
    return index >= 0 && index < LOSS_KIND_COUNT ? loss_kinds[index].table.name : NULL;
}

bool lks_loss_takes_classes(const char *type) {
    const loss_kind *found = find_loss(type);
    return found != NULL && found->targets_are_classes;
}

static lks_status fail_unknown(const char *type) {
    if (type == NULL) return lks_fail(LKS_ECONFIG, "a loss without a type");
    const char *names[LOSS_KIND_COUNT];
    for (int i = 0; i < LOSS_KIND_COUNT; i++)
        names[i] = loss_kinds[i].table.name;
    return lks_fail_unknown("loss", type, names, LOSS_KIND_COUNT);
}

static lks_status make(const lks_spec *spec, const lks_shape *output, lks_loss *out) {
    const loss_kind *kind = find_loss(spec->type);
    if (kind == NULL) return fail_unknown(spec->type);
    loss_config config;
    lks_status status = lks_options_parse(&kind->table, &config, spec->options, spec->type);
    if (status != LKS_OK) return status;
    char text[LKS_SHAPE_TEXT_BYTES];
    if (kind->targets_are_classes && output->rank != 1)
        return lks_fail(LKS_ESHAPE,
                        "loss %s takes one number for each class, [classes], but the last layer "
                        "gives %s",
                        spec->type, lks_shape_text(output, text));
    int64_t width;
    status = lks_shape_count(output, &width);
    if (status != LKS_OK) return status;
    *out = (lks_loss){
        .desc = {.kind = kind->kind,
                 .width = width,
                 .label_smoothing = config.label_smoothing,
                 .ignore_index = config.ignore_index,
                 .delta = config.delta},
        .targets_are_classes = kind->targets_are_classes,
    };
    lks_options_free(&kind->table, &config);
    return LKS_OK;
}

lks_status lks_loss_make(const lks_spec *spec, const lks_shape *output, lks_loss *out) {
    lks_status status = make(spec, output, out);
    if (status != LKS_OK && spec->where != NULL) return lks_fail_in(status, "%s", spec->where);
    return status;
}
