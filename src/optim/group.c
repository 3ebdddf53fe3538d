#include "optim/group.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* "optimizer (sgd)", with several groups "optimizer (sgd), group 1". */
static lks_status fail_in_group(lks_status status, const lks_optimizer_groups *groups, int index) {
    if (groups->group_count == 1) return lks_fail_in(status, "optimizer (%s)", groups->spec.type);
    return lks_fail_in(status, "optimizer (%s), group %d", groups->spec.type, index);
}

/* The base's options, then the group's own in their place. */
static lks_status configure(lks_group *group, const lks_optimizer_groups *groups, int index,
                            const lks_optimizer_kind *kind) {
    const lks_option_table *table = kind->options;
    const char *own = groups->overrides ? groups->overrides[index] : NULL;
    uint64_t given = 0;
    lks_status status = lks_options_override(table, group->config, groups->spec.options, &given);
    if (!status) status = lks_options_override(table, group->config, own, &given);
    if (status) return status;

    lks_optimizer_common *common = group->config;
    const double scale = groups->lr_scale ? groups->lr_scale[index] : 1;
    const bool own_lr = given >> (lks_options_find(table, "lr") - table->options) & 1;
    if (!(scale >= 0) || !isfinite(scale))
        return lks_fail(LKS_ECONFIG, "lr is scaled by %g: expected a number >= 0", scale);
    if (!own_lr) common->lr *= scale;
    if (kind->check) status = kind->check(group->config);

    group->momentum_now = kind->momentum ? kind->momentum(group->config) : NULL;
    group->momentum = group->momentum_now ? *group->momentum_now : NAN;
    group->base_lr = group->lr = common->lr;
    return status;
}

lks_status lks_groups_create(const lks_optimizer_groups *groups, const lks_optimizer_kind *kind,
                             lks_group **out) {
    const int count = groups->group_count;
    *out = NULL;
    if (count < 1) return lks_fail(LKS_EINVAL, "optimizer: %d groups: expected 1 or more", count);
    lks_group *made = calloc((size_t)count, sizeof *made);
    lks_status status = made ? LKS_OK : lks_fail(LKS_ENOMEM, "out of memory");
    for (int i = 0; !status && i < count; i++) {
        made[i].config = calloc(1, kind->options->struct_bytes);
        status = made[i].config ? lks_options_init(kind->options, made[i].config)
                                : lks_fail(LKS_ENOMEM, "out of memory");
        if (!status) status = configure(&made[i], groups, i, kind);
        if (status) status = fail_in_group(status, groups, i);
    }
    if (status) {
        lks_groups_destroy(made, count, kind);
        return status;
    }
    *out = made;
    return LKS_OK;
}

void lks_groups_destroy(lks_group *groups, int count, const lks_optimizer_kind *kind) {
    for (int i = 0; groups && i < count; i++) {
        if (groups[i].config) lks_options_free(kind->options, groups[i].config);
        free(groups[i].config);
    }
    free(groups);
}

/* A value without blanks, as lks_spec's text form has it. */
static void print_value(const lks_option *option, const void *config, lks_strbuf *out) {
    lks_strbuf value = {0};
    lks_option_print(option, config, &value);
    for (size_t i = 0; i < value.length; i++) {
        if (value.text[i] != ' ') lks_strbuf_add_bytes(out, value.text + i, 1);
    }
    out->failed = out->failed || value.failed;
    lks_strbuf_free(&value);
}

void lks_group_describe(const lks_group *group, const lks_group *base,
                        const lks_optimizer_kind *kind, lks_strbuf *out) {
    const char *blank = "";
    for (const lks_option *o = kind->options->options; o->key; o++) {
        lks_strbuf own = {0}, common = {0};
        print_value(o, group->config, &own);
        if (base) print_value(o, base->config, &common);
        out->failed = out->failed || own.failed || common.failed;
        if (!out->failed && !(base && strcmp(own.text, common.text) == 0)) {
            lks_strbuf_add(out, "%s%s=%s", blank, o->key, own.text);
            blank = " ";
        }
        lks_strbuf_free(&own);
        lks_strbuf_free(&common);
    }
}

lks_status lks_groups_describe(const lks_group *groups, int count, const lks_optimizer_kind *kind,
                               char **out) {
    lks_strbuf text = {0};
    *out = NULL;
    for (int i = 0; i < count; i++) {
        if (count > 1) lks_strbuf_add(&text, "%sgroup %d: ", i ? "; " : "", i);
        lks_group_describe(&groups[i], NULL, kind, &text);
    }
    if (text.failed) {
        lks_strbuf_free(&text);
        return lks_fail(LKS_ENOMEM, "optimizer: out of memory");
    }
    *out = text.text;
    return LKS_OK;
}
