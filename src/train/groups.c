#include "train/groups.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/train.h"

const char *const lks_no_decay_words[] = {"bias", "norm", NULL};

static const lks_option group_options[] = {
    {.key = "lr_scale",
     .type = LKS_OPTION_FLOAT,
     .offset = offsetof(lks_param_group, lr_scale),
     .text = "1",
     .high = INFINITY,
     .low_open = true,
     .high_open = true,
     .help = "Multiple of the optimizer's learning rate, instead of an `lr` of the group's own."},
    {.key = "frozen",
     .type = LKS_OPTION_BOOL,
     .offset = offsetof(lks_param_group, frozen),
     .text = "false",
     .help = "Whether the parameters keep their values: no gradients, no optimizer state, no "
             "updates."},
    {0},
};

const lks_option_table lks_param_group_options = {
    .name = "group",
    .help = "Settings of some parameters' own.",
    .struct_bytes = sizeof(lks_param_group),
    .options = group_options,
};

/* Words of a text that blanks separate. */
typedef struct word_list {
    char *text; /* the words stand in it */
    char **words;
    bool *matched; /* beside each: some parameter matches it */
    int count;
} word_list;

/* A parameter's place in the flat buffer, and its optimizer group. */
typedef lks_group_range place;

struct lks_param_groups {
    const lks_train_config *config;
    int list_count;      /* elements of config->groups */
    word_list *patterns; /* [list_count] */
    bool *sets_decay;    /* [list_count]: its options say weight_decay */
    bool no_decay_bias, no_decay_norm;

    lks_param_set *sets;
    int set_count;
    int optimizer_group_count;
    char **overrides; /* [optimizer_group_count], as are the scales */
    double *lr_scales;
    lks_group_range *ranges;
    int range_count;
};

static lks_status out_of_memory(void) {
    return lks_fail(LKS_ENOMEM, "parameter groups: out of host memory");
}

/* ---- lists ---- */

static bool is_end(const lks_param_group *group) {
    return group->params == NULL && group->options == NULL && group->lr_scale == 0 &&
           !group->frozen && group->where == NULL;
}

static int count_list(const lks_param_group *list) {
    int count = 0;
    while (list != NULL && !is_end(&list[count]))
        count++;
    return count;
}

lks_status lks_param_groups_copy_list(const lks_param_group *list, const lks_param_group **out) {
    *out = NULL;
    if (list == NULL) return LKS_OK;
    int count = count_list(list);
    lks_param_group *copy = calloc((size_t)count + 1, sizeof *copy);
    bool copied = copy != NULL;
    for (int i = 0; copied && i < count; i++) {
        copy[i] = (lks_param_group){.params = lks_strdup(list[i].params),
                                    .options = lks_strdup(list[i].options),
                                    .lr_scale = list[i].lr_scale,
                                    .frozen = list[i].frozen,
                                    .where = lks_strdup(list[i].where)};
        copied = (list[i].params == NULL || copy[i].params != NULL) &&
                 (list[i].options == NULL || copy[i].options != NULL) &&
                 (list[i].where == NULL || copy[i].where != NULL);
        if (!copied) count = i + 1;
    }
    if (copied) {
        *out = copy;
        return LKS_OK;
    }
    for (int i = 0; copy != NULL && i < count; i++) {
        free((char *)copy[i].params);
        free((char *)copy[i].options);
        free((char *)copy[i].where);
    }
    free(copy);
    return out_of_memory();
}

void lks_param_groups_free_list(const lks_param_group *list) {
    for (int i = 0; i < count_list(list); i++) {
        free((char *)list[i].params);
        free((char *)list[i].options);
        free((char *)list[i].where);
    }
    free((lks_param_group *)list);
}

/* ---- words ---- */

static const char blanks[] = " \t\n";

static lks_status split_words(const char *text, word_list *out) {
    size_t most = (text == NULL ? 0 : strlen(text)) / 2 + 1;
    *out = (word_list){.text = lks_strdup(text == NULL ? "" : text),
                       .words = calloc(most, sizeof *out->words),
                       .matched = calloc(most, sizeof *out->matched)};
    if (out->text == NULL || out->words == NULL || out->matched == NULL) return out_of_memory();
    char *rest = out->text;
    for (char *word; (word = strtok_r(rest, blanks, &rest)) != NULL;)
        out->words[out->count++] = word;
    return LKS_OK;
}

static void free_words(word_list *list) {
    free(list->text);
    free(list->words);
    free(list->matched);
}

/* Does some word match? Notes all that do. */
static bool match_words(word_list *list, const char *name) {
    bool any = false;
    for (int i = 0; i < list->count; i++)
        if (lks_glob_match(list->words[i], name)) any = list->matched[i] = true;
    return any;
}

/* ---- what can be checked without a model ---- */

/* Puts where and which group in front of the error's detail. */
static lks_status fail_in_group(lks_status status, const lks_param_group *group) {
    lks_fail_in(status, "optimizer group \"%s\"", group->params == NULL ? "" : group->params);
    return group->where == NULL ? status : lks_fail_in(status, "%s", group->where);
}

static lks_status read_no_decay(lks_param_groups *groups) {
    word_list list;
    lks_status status = split_words(groups->config->no_decay, &list);
    for (int i = 0; i < list.count && status == LKS_OK; i++) {
        const char *word = list.words[i];
        if (strcmp(word, "bias") == 0)
            groups->no_decay_bias = true;
        else if (strcmp(word, "norm") == 0)
            groups->no_decay_norm = true;
        else
            status =
                lks_fail(LKS_ECONFIG, "no_decay: \"%s\" is unknown: expected bias or norm", word);
    }
    free_words(&list);
    return status;
}

/* The base's options and then the group's in a configuration of the optimizer. *given: which ones
 * the group names. *out is freed with free_options. */
static lks_status read_options(const lks_option_table *table, const char *base, const char *own,
                               void **out, uint64_t *given) {
    *given = 0;
    *out = calloc(1, table->struct_bytes + 1);
    if (*out == NULL) return out_of_memory();
    lks_status status = lks_options_init(table, *out);
    if (status != LKS_OK) {
        free(*out);
        *out = NULL;
        return status;
    }
    status = lks_options_override(table, *out, base, given);
    *given = 0;
    return status == LKS_OK ? lks_options_override(table, *out, own, given) : status;
}

static void free_options(const lks_option_table *table, void *config) {
    if (config == NULL) return;
    lks_options_free(table, config);
    free(config);
}

static bool names_option(const lks_option_table *table, uint64_t given, const char *key) {
    const lks_option *option = lks_options_find(table, key);
    return option != NULL && (given >> (option - table->options) & 1) != 0;
}

/* An optimizer that is unknown, or its own options that are wrong, are refused when the optimizer
 * is created. */
static lks_status check_options(lks_param_groups *groups, int index) {
    const lks_spec *spec = &groups->config->optimizer;
    const lks_param_group *group = &groups->config->groups[index];
    const lks_option_table *table = spec->type == NULL ? NULL : lks_optimizer_options(spec->type);
    if (table == NULL) return LKS_OK;
    void *config;
    uint64_t given;
    lks_status status = read_options(table, NULL, group->options, &config, &given);
    groups->sets_decay[index] = names_option(table, given, "weight_decay");
    if (status == LKS_OK && group->lr_scale != 0 && names_option(table, given, "lr"))
        status = lks_fail(LKS_ECONFIG, "lr and lr_scale are both given: expected one of them");
    free_options(table, config);
    return status;
}

static lks_status check_group(lks_param_groups *groups, int index) {
    const lks_param_group *group = &groups->config->groups[index];
    lks_status status = split_words(group->params, &groups->patterns[index]);
    if (status == LKS_OK && groups->patterns[index].count == 0)
        status = lks_fail(LKS_ECONFIG, "params: no pattern is given: expected one or more, such "
                                       "as \"*.bias\"");
    if (status == LKS_OK && (!(group->lr_scale >= 0) || !isfinite(group->lr_scale)))
        status = lks_fail(LKS_ECONFIG, "lr_scale: %g is out of range: expected a number > 0",
                          group->lr_scale);
    if (status == LKS_OK) status = check_options(groups, index);
    return status == LKS_OK ? LKS_OK : fail_in_group(status, group);
}

static lks_status check(lks_param_groups *groups) {
    size_t count = (size_t)count_list(groups->config->groups);
    groups->patterns = calloc(count + 1, sizeof *groups->patterns);
    groups->sets_decay = calloc(count + 1, sizeof *groups->sets_decay);
    if (groups->patterns == NULL || groups->sets_decay == NULL) return out_of_memory();
    groups->list_count = (int)count;
    lks_status status = read_no_decay(groups);
    for (int i = 0; i < groups->list_count && status == LKS_OK; i++)
        status = check_group(groups, i);
    return status;
}

lks_status lks_param_groups_create(const lks_train_config *config, lks_param_groups **out) {
    lks_param_groups *groups = calloc(1, sizeof *groups);
    if (groups == NULL) return out_of_memory();
    groups->config = config;
    lks_status status = check(groups);
    if (status == LKS_OK)
        *out = groups;
    else
        lks_param_groups_destroy(groups);
    return status;
}

void lks_param_groups_destroy(lks_param_groups *groups) {
    if (groups == NULL) return;
    for (int i = 0; i < groups->list_count; i++)
        free_words(&groups->patterns[i]);
    for (int i = 0; i < groups->optimizer_group_count; i++)
        free(groups->overrides[i]);
    free(groups->patterns);
    free(groups->sets_decay);
    free(groups->sets);
    free(groups->overrides);
    free(groups->lr_scales);
    free(groups->ranges);
    free(groups);
}

/* ---- which parameter belongs where ---- */

/* The first group that names it, or -1. */
static int group_of(lks_param_groups *groups, const char *name) {
    int first = -1;
    for (int i = 0; i < groups->list_count; i++)
        if (match_words(&groups->patterns[i], name) && first < 0) first = i;
    return first;
}

bool lks_param_groups_is_frozen(void *data, const char *name) {
    lks_param_groups *groups = data;
    int group = group_of(groups, name);
    return group >= 0 && groups->config->groups[group].frozen;
}

static bool is_bias(const char *name) {
    const char *dot = strrchr(name, '.');
    return strcmp(dot == NULL ? name : dot + 1, "bias") == 0;
}

/* Sets are numbered by their group (-1: none) and whether no_decay applies. */
static int number_of_set(int group, bool no_decay) {
    return 2 * (group + 1) + (no_decay ? 1 : 0);
}

static int set_number(lks_param_groups *groups, const lks_graph *graph, const lks_param *param) {
    int group = group_of(groups, param->name);
    bool named = (groups->no_decay_bias && is_bias(param->name)) ||
                 (groups->no_decay_norm && lks_graph_layer(graph, param->layer).is_norm);
    bool own = param->frozen || (group >= 0 && groups->sets_decay[group]);
    return number_of_set(group, named && !own);
}

/* ---- refusals ---- */

/* Names of parameters, and the patterns of whole layers, of which one may have been meant. */
static lks_status refuse_pattern(const lks_graph *graph, const char *pattern) {
    int params = lks_graph_param_count(graph), layers = lks_graph_layer_count(graph);
    char **candidates = calloc((size_t)(params + layers) + 1, sizeof *candidates);
    int count = 0;
    for (int i = 0; candidates != NULL && i < params + layers; i++) {
        candidates[count] =
            i < params ? lks_strdup(lks_graph_param(graph, i)->name)
                       : lks_strdup_printf("%s.*", lks_graph_layer(graph, i - params).name);
        if (candidates[count] != NULL) count++;
    }
    lks_status status =
        lks_fail_unknown("parameter", pattern, (const char *const *)candidates, (size_t)count);
    for (int i = 0; i < count; i++)
        free(candidates[i]);
    free(candidates);
    return status;
}

/* counts: of parameters, by the numbers of their sets. */
static lks_status refuse_useless(const lks_param_groups *groups, const lks_graph *graph,
                                 const int *counts) {
    for (int g = 0; g < groups->list_count; g++) {
        const lks_param_group *group = &groups->config->groups[g];
        const word_list *patterns = &groups->patterns[g];
        for (int i = 0; i < patterns->count; i++)
            if (!patterns->matched[i])
                return fail_in_group(refuse_pattern(graph, patterns->words[i]), group);
        if (counts[number_of_set(g, false)] + counts[number_of_set(g, true)] == 0)
            return fail_in_group(lks_fail(LKS_ECONFIG, "every parameter that it names belongs to "
                                                       "an earlier group"),
                                 group);
    }
    for (int i = 0; i < lks_graph_param_count(graph); i++)
        if (!lks_graph_param(graph, i)->frozen) return LKS_OK;
    return lks_graph_param_count(graph) == 0
               ? LKS_OK
               : lks_fail(LKS_ECONFIG, "optimizer groups: every parameter is frozen: there is "
                                       "nothing to train");
}

/* ---- the sets ---- */

static lks_status add_optimizer_group(lks_param_groups *groups, int group, lks_param_set *set) {
    const lks_train_config *config = groups->config;
    const char *own = group >= 0 ? config->groups[group].options : NULL;
    const double scale = group >= 0 ? config->groups[group].lr_scale : 0;
    int index = groups->optimizer_group_count++;
    set->optimizer_group = index;
    groups->lr_scales[index] = scale == 0 ? 1 : scale;
    groups->overrides[index] =
        lks_strdup_printf("%s%s", own == NULL ? "" : own, set->no_decay ? " weight_decay=0" : "");
    return groups->overrides[index] == NULL ? out_of_memory() : LKS_OK;
}

/* The sets that have parameters, and the optimizer's first group in any case: it is the base of the
 * others. set_of: by number. */
static lks_status make_sets(lks_param_groups *groups, const int *counts, int *set_of) {
    size_t most = 2 * ((size_t)groups->list_count + 1);
    groups->sets = calloc(most, sizeof *groups->sets);
    groups->overrides = calloc(most, sizeof *groups->overrides);
    groups->lr_scales = calloc(most, sizeof *groups->lr_scales);
    if (groups->sets == NULL || groups->overrides == NULL || groups->lr_scales == NULL)
        return out_of_memory();
    for (int number = 0; number < (int)most; number++) {
        if (counts[number] == 0 && number > 0) continue;
        int group = number / 2 - 1;
        set_of[number] = groups->set_count;
        lks_param_set *set = &groups->sets[groups->set_count++];
        *set = (lks_param_set){.patterns = group >= 0 ? groups->config->groups[group].params : NULL,
                               .frozen = group >= 0 && groups->config->groups[group].frozen,
                               .no_decay = number % 2 == 1,
                               .optimizer_group = -1};
        lks_status status = set->frozen ? LKS_OK : add_optimizer_group(groups, group, set);
        if (status != LKS_OK) return status;
    }
    return LKS_OK;
}

static int compare_offsets(const void *a, const void *b) {
    int64_t x = ((const place *)a)->offset, y = ((const place *)b)->offset;
    return x < y ? -1 : x > y;
}

/* Stretches of trainable parameters that follow each other and belong to one group; those of group
 * 0 need none. */
static void make_ranges(lks_param_groups *groups, place *places, int count) {
    qsort(places, (size_t)count, sizeof *places, compare_offsets);
    int made = 0;
    for (int i = 0; i < count; i++) {
        if (places[i].group == 0) continue;
        lks_group_range *last = made > 0 ? &groups->ranges[made - 1] : NULL;
        if (last != NULL && i > 0 && places[i - 1].group == places[i].group)
            last->count = places[i].offset + places[i].count - last->offset;
        else
            groups->ranges[made++] = places[i];
    }
    groups->range_count = made;
}

static void count_params(lks_param_groups *groups, const lks_graph *graph, int *counts) {
    for (int i = 0; i < lks_graph_param_count(graph); i++)
        counts[set_number(groups, graph, lks_graph_param(graph, i))]++;
}

lks_status lks_param_groups_assign(lks_param_groups *groups, const lks_graph *graph) {
    size_t numbers = 2 * ((size_t)groups->list_count + 1);
    size_t params = (size_t)lks_graph_param_count(graph);
    int *counts = calloc(numbers, sizeof *counts), *set_of = calloc(numbers, sizeof *set_of);
    place *places = calloc(params + 1, sizeof *places);
    groups->ranges = calloc(params + 1, sizeof *groups->ranges);
    lks_status status = counts == NULL || set_of == NULL || places == NULL || groups->ranges == NULL
                            ? out_of_memory()
                            : LKS_OK;
    if (status == LKS_OK) {
        count_params(groups, graph, counts);
        status = refuse_useless(groups, graph, counts);
    }
    if (status == LKS_OK) status = make_sets(groups, counts, set_of);
    int count = 0;
    for (int i = 0; i < (int)params && status == LKS_OK; i++) {
        const lks_param *param = lks_graph_param(graph, i);
        lks_param_set *set = &groups->sets[set_of[set_number(groups, graph, param)]];
        set->param_count++;
        set->element_count += param->count;
        if (!param->frozen)
            places[count++] = (place){param->offset, param->count, set->optimizer_group};
    }
    if (status == LKS_OK) make_ranges(groups, places, count);
    free(counts);
    free(set_of);
    free(places);
    return status;
}

lks_optimizer_groups lks_param_groups_optimizer(const lks_param_groups *groups) {
    return (lks_optimizer_groups){
        .spec = groups->config->optimizer,
        .group_count = groups->optimizer_group_count,
        .overrides = (const char *const *)groups->overrides,
        .lr_scale = groups->lr_scales,
        .ranges = groups->ranges,
        .range_count = groups->range_count,
    };
}

const lks_param_set *lks_param_groups_set(const lks_param_groups *groups, int index) {
    return index < groups->set_count ? &groups->sets[index] : NULL;
}
