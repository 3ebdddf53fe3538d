/* The optimizer's section: its type and options, and what some parameters have instead. */
#include <stdlib.h>
#include <string.h>

#include "app/run_parse.h"
#include "train/train.h"

static const char *const optimizer_keys[] = {"type", "no_decay", "groups", NULL};
static const char *const group_keys[] = {"params", NULL};

lks_status lks_run_read_words(lks_run_parser *parser, const lks_node *node, const char *what,
                              const char **out) {
    const bool is_list = node->kind == LKS_NODE_LIST;
    lks_strbuf words = {0};
    lks_status status = LKS_OK;
    lks_strbuf_add(&parser->resolved, "%s: [", node->key);
    for (const lks_node *word = is_list ? node->first : node; word && !status;
         word = is_list ? word->next : NULL) {
        if (word->kind != LKS_NODE_SCALAR || lks_node_is_null(word) || !*word->text) {
            status =
                lks_node_fail(node, "%s: %s: expected a text or a list of texts", what, node->key);
            continue;
        }
        if (words.length) lks_strbuf_add(&parser->resolved, ", ");
        lks_strbuf_add_json(&parser->resolved, word->text);
        lks_strbuf_add(&words, "%s%s", words.length ? " " : "", word->text);
    }
    lks_strbuf_add(&parser->resolved, "]");
    if (!status && !words.length && !words.failed)
        status = lks_node_fail(node, "%s: %s: expected at least one text", what, node->key);
    if (!status) {
        *out = words.failed ? NULL : lks_arena_copy(parser->arena, words.text, words.length);
        if (!*out) status = lks_run_out_of_memory(node);
    }
    lks_strbuf_free(&words);
    return status;
}

/* ---- no_decay ---- */

static lks_status check_no_decay(const lks_node *node) {
    const bool is_list = node->kind == LKS_NODE_LIST;
    size_t count = 0;
    while (lks_no_decay_words[count])
        count++;
    for (const lks_node *word = is_list ? node->first : node; word;
         word = is_list ? word->next : NULL) {
        bool known = false;
        for (size_t i = 0; i < count; i++)
            known = known || strcmp(word->text, lks_no_decay_words[i]) == 0;
        if (known) continue;
        const char *nearest = lks_nearest_name(word->text, lks_no_decay_words, count);
        return nearest ? lks_node_fail(node, "optimizer: no_decay: \"%s\": did you mean \"%s\"?",
                                       word->text, nearest)
                       : lks_node_fail(node, "optimizer: no_decay: \"%s\": expected bias or norm",
                                       word->text);
    }
    return LKS_OK;
}

static lks_status read_no_decay(lks_run_parser *parser, const lks_node *node, const char **out) {
    if (!node || lks_node_is_null(node)) return LKS_OK;
    lks_strbuf_add(&parser->resolved, ", ");
    lks_status status = lks_run_read_words(parser, node, "optimizer", out);
    return status ? status : check_no_decay(node);
}

/* ---- groups ---- */

/* The options of the group itself and those of the optimizer stand in one map. Only what is given
 * is printed: the rest is as the optimizer has it. */
static lks_status read_settings(lks_run_parser *parser, const lks_option_table *table,
                                const char *what, const lks_node *node, lks_param_group *out) {
    const lks_option_table *own = &lks_param_group_options;
    const char **beside_table = lks_run_join_keys(parser->arena, group_keys, own);
    const char **beside_own = lks_run_join_keys(parser->arena, group_keys, table);
    void *config = calloc(1, table->struct_bytes + 1);
    lks_status status = beside_table && beside_own && config ? LKS_OK : lks_run_out_of_memory(node);
    lks_map_reader of_own = {own, what, beside_own, ", ", own};
    lks_map_reader of_table = {table, what, beside_table, ", ", table};
    const char *options = NULL;
    if (!status) {
        status = lks_run_read_options(parser, &of_table, node, config, &options);
        lks_options_free(table, config);
    }
    const char *params = out->params, *where = out->where;
    if (!status) status = lks_run_read_options(parser, &of_own, node, out, NULL);
    out->params = params;
    out->where = where;
    out->options = options;
    if (!lks_node_find(node, "lr_scale")) out->lr_scale = 0; /* an lr of its own may be given */
    free(config);
    return status;
}

static lks_status read_group(lks_run_parser *parser, const lks_option_table *table, int index,
                             const lks_node *node, lks_param_group *out) {
    const char *what = lks_arena_printf(parser->arena, "optimizer groups[%d]", index);
    out->where = lks_node_where(parser->arena, node);
    if (!what || !out->where) return lks_run_out_of_memory(node);
    if (node->kind != LKS_NODE_MAP)
        return lks_node_fail(node, "%s: expected a map with the key \"params\"", what);
    const lks_node *params = lks_node_find(node, "params");
    if (!params) return lks_node_fail(node, "%s: the key \"params\" is missing", what);
    lks_strbuf_add(&parser->resolved, "%s{", index ? ", " : "");
    lks_status status = lks_run_read_words(parser, params, what, &out->params);
    if (!status) status = read_settings(parser, table, what, node, out);
    lks_strbuf_add(&parser->resolved, "}");
    return status;
}

static lks_status read_groups(lks_run_parser *parser, const lks_option_table *table,
                              const lks_node *list, const lks_param_group **out) {
    if (!list || lks_node_is_null(list)) return LKS_OK;
    if (list->kind != LKS_NODE_LIST)
        return lks_node_fail(list, "optimizer: groups: expected a list of maps");
    lks_param_group *groups =
        lks_arena_alloc(parser->arena, ((size_t)lks_node_count(list) + 1) * sizeof *groups);
    if (!groups) return lks_run_out_of_memory(list);
    *out = groups;
    lks_strbuf_add(&parser->resolved, ", groups: [");
    int index = 0;
    lks_status status = LKS_OK;
    for (const lks_node *node = list->first; node && !status; node = node->next, index++)
        status = read_group(parser, table, index, node, &groups[index]);
    lks_strbuf_add(&parser->resolved, "]");
    return status;
}

/* ---- the section ---- */

lks_status lks_run_read_optimizer(lks_run_parser *parser, const lks_node *node,
                                  lks_train_config *out) {
    const lks_node standard = {
        .kind = LKS_NODE_SCALAR, .source = "the default", .text = out->optimizer.type};
    if (!node || lks_node_is_null(node)) node = &standard;
    lks_spec *spec = &out->optimizer;
    const lks_option_table *table;
    lks_status status =
        lks_run_read_type(parser, lks_section_find("optimizer"), node, &spec->type, &table);
    if (status) return status;
    const char *what = lks_arena_printf(parser->arena, "optimizer %s", spec->type);
    void *config = calloc(1, table->struct_bytes + 1);
    spec->where = lks_node_where(parser->arena, node);
    if (!what || !config || !spec->where) {
        free(config);
        return lks_run_out_of_memory(node);
    }
    lks_strbuf_add(&parser->resolved, "\noptimizer: {type: %s", spec->type);
    lks_map_reader reader = {table, what, optimizer_keys, ", ", NULL};
    status = lks_run_read_options(parser, &reader, node, config, &spec->options);
    lks_options_free(table, config);
    free(config);
    if (!status && node->kind == LKS_NODE_MAP) {
        status = read_no_decay(parser, lks_node_find(node, "no_decay"), &out->no_decay);
        if (!status)
            status = read_groups(parser, table, lks_node_find(node, "groups"), &out->groups);
    }
    lks_strbuf_add(&parser->resolved, "}");
    return status;
}
