#include "base/option.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/option_text.h"
#include "base/option_value.h"

enum { MAX_OPTIONS = 64 }; /* bits of `given` */

static int option_count(const lks_option_table *table) {
    int count = 0;
    while (table->options[count].key)
        count++;
    assert(count <= MAX_OPTIONS);
    return count;
}

const lks_option *lks_options_find(const lks_option_table *table, const char *key) {
    for (const lks_option *option = table->options; option->key; option++)
        if (strcmp(option->key, key) == 0) return option;
    return NULL;
}

static lks_status refuse_unknown(const lks_option_table *table, const char *key) {
    const char *keys[MAX_OPTIONS] = {0};
    int count = option_count(table);
    for (int i = 0; i < count; i++)
        keys[i] = table->options[i].key;
    if (count == 0)
        return lks_fail(LKS_ECONFIG, "unknown option \"%s\": %s takes no options", key,
                        table->name);
    return lks_fail_unknown("option", key, keys, (size_t)count);
}

/* "[a, b]" as the user wrote it, for messages. */
static lks_status refuse_values(const lks_option *option, const char *const *values, int count,
                                bool as_list) {
    lks_strbuf given = {0};
    if (as_list || count != 1) lks_strbuf_add(&given, "[");
    for (int i = 0; i < count; i++)
        lks_strbuf_add(&given, "%s%s", i ? ", " : "", values[i]);
    if (as_list || count != 1) lks_strbuf_add(&given, "]");
    lks_status status = given.failed ? lks_fail(LKS_ENOMEM, "out of memory")
                                     : lks_option_refuse(option, given.text, "does not fit");
    lks_strbuf_free(&given);
    return status;
}

static lks_status set_string(const lks_option *option, void *member, const char *value) {
    char *copy = lks_strdup(value);
    if (!copy) return lks_fail(LKS_ENOMEM, "%s: out of memory", option->key);
    free(*(char **)member);
    *(char **)member = copy;
    return LKS_OK;
}

static lks_status set_pair(const lks_option *option, void *member, const char *const *values,
                           int count) {
    /* read aside, so that a failure leaves the old pair */
    union {
        int64_t ints[2];
        double floats[2];
    } pair;
    size_t bytes = option->type == LKS_OPTION_INT_PAIR ? sizeof pair.ints : sizeof pair.floats;
    for (int i = 0; i < 2; i++) {
        lks_status status = lks_option_read_value(option, values[count == 1 ? 0 : i], &pair, i);
        if (status) return status;
    }
    memcpy(member, &pair, bytes);
    return LKS_OK;
}

static lks_status set_list(const lks_option *option, void *member, const char *const *values,
                           int count) {
    size_t element = option->type == LKS_OPTION_INT_LIST ? sizeof(int64_t) : sizeof(double);
    void *list = NULL;
    if (count > 0 && !(list = calloc((size_t)count, element)))
        return lks_fail(LKS_ENOMEM, "%s: out of memory", option->key);
    for (int i = 0; i < count; i++) {
        lks_status status = lks_option_read_value(option, values[i], list, i);
        if (status) {
            free(list);
            return status;
        }
    }
    if (option->type == LKS_OPTION_INT_LIST) {
        free(((lks_int_list *)member)->values);
        *(lks_int_list *)member = (lks_int_list){list, count};
    } else {
        free(((lks_float_list *)member)->values);
        *(lks_float_list *)member = (lks_float_list){list, count};
    }
    return LKS_OK;
}

static void free_texts(lks_text_list *list) {
    for (int i = 0; i < list->count; i++)
        free(list->values[i]);
    free(list->values);
    *list = (lks_text_list){0};
}

static lks_status set_texts(const lks_option *option, lks_text_list *member,
                            const char *const *values, int count) {
    lks_text_list list = {.values = calloc((size_t)count + 1, sizeof *list.values)};
    bool complete = list.values != NULL;
    for (; complete && list.count < count; list.count++) {
        list.values[list.count] = lks_strdup(values[list.count]);
        complete = list.values[list.count] != NULL;
    }
    if (!complete) {
        free_texts(&list);
        return lks_fail(LKS_ENOMEM, "%s: out of memory", option->key);
    }
    free_texts(member);
    *member = list;
    return LKS_OK;
}

lks_status lks_option_assign(const lks_option *option, void *config, const char *const *values,
                             int count, bool as_list) {
    void *member = lks_option_member(option, config);
    switch (option->type) {
    case LKS_OPTION_INT_LIST:
    case LKS_OPTION_FLOAT_LIST:
        return set_list(option, member, values, count);
    case LKS_OPTION_SPEC_LIST:
        return set_texts(option, member, values, count);
    case LKS_OPTION_INT_PAIR:
        if (count != 2 && (count != 1 || as_list))
            return refuse_values(option, values, count, as_list);
        return set_pair(option, member, values, count);
    case LKS_OPTION_FLOAT_PAIR:
        if (count != 2) return refuse_values(option, values, count, as_list);
        return set_pair(option, member, values, count);
    default:
        break;
    }
    if (count != 1 || as_list) return refuse_values(option, values, count, as_list);
    if (option->type == LKS_OPTION_STRING || option->type == LKS_OPTION_PATH)
        return set_string(option, member, values[0]);
    return lks_option_read_value(option, values[0], member, 0);
}

lks_status lks_options_init(const lks_option_table *table, void *config) {
    memset(config, 0, table->struct_bytes);
    for (const lks_option *option = table->options; option->key; option++) {
        if (!option->text) continue;
        lks_status status = lks_option_assign_text(option, config, option->text);
        if (status) {
            lks_options_free(table, config);
            return status == LKS_ECONFIG
                       ? lks_fail_in(LKS_EINTERNAL, "the default of %s's option", table->name)
                       : status;
        }
    }
    return LKS_OK;
}

lks_status lks_options_check_required(const lks_option_table *table, uint64_t given) {
    lks_strbuf missing = {0};
    int count = option_count(table), missing_count = 0;
    for (int i = 0; i < count; i++) {
        const lks_option *option = &table->options[i];
        if (option->text || option->optional || (given >> i & 1)) continue;
        lks_strbuf_add(&missing, "%s%s", missing_count++ ? ", " : "", option->key);
    }
    lks_status status = LKS_OK;
    if (missing.failed)
        status = lks_fail(LKS_ENOMEM, "out of memory");
    else if (missing_count)
        status = lks_fail(LKS_ECONFIG, "missing %s: %s",
                          missing_count > 1 ? "required options" : "required option", missing.text);
    lks_strbuf_free(&missing);
    return status;
}

void lks_options_free(const lks_option_table *table, void *config) {
    for (const lks_option *option = table->options; option->key; option++) {
        void *member = lks_option_member(option, config);
        switch (option->type) {
        case LKS_OPTION_STRING:
        case LKS_OPTION_PATH:
            free(*(char **)member);
            *(char **)member = NULL;
            break;
        case LKS_OPTION_INT_LIST:
            free(((lks_int_list *)member)->values);
            *(lks_int_list *)member = (lks_int_list){0};
            break;
        case LKS_OPTION_FLOAT_LIST:
            free(((lks_float_list *)member)->values);
            *(lks_float_list *)member = (lks_float_list){0};
            break;
        case LKS_OPTION_SPEC_LIST:
            free_texts(member);
            break;
        default:
            break;
        }
    }
}

/* One `key=value` of lks_options_parse. */
static lks_status parse_one(const lks_option_table *table, void *config,
                            const lks_option_token *token, uint64_t *given) {
    const lks_option *option = lks_options_find(table, token->key);
    if (!option) return refuse_unknown(table, token->key);
    uint64_t bit = UINT64_C(1) << (option - table->options);
    if (*given & bit) return lks_fail(LKS_ECONFIG, "%s is given twice", option->key);
    *given |= bit;
    return lks_option_assign(option, config, (const char *const *)token->values, token->count,
                             token->as_list);
}

lks_status lks_options_override(const lks_option_table *table, void *config, const char *text,
                                uint64_t *given) {
    const char *rest = text ? text : "";
    lks_option_token token = {0};
    lks_status status;
    *given = 0;
    while (!(status = lks_option_next_token(&rest, &token)) && token.key) {
        status = parse_one(table, config, &token, given);
        lks_option_token_free(&token);
        if (status) break;
    }
    return status;
}

lks_status lks_options_parse(const lks_option_table *table, void *config, const char *text,
                             const char *what) {
    uint64_t given = 0;
    lks_status status = lks_options_init(table, config);
    if (status) return lks_fail_in(status, "%s", what);
    status = lks_options_override(table, config, text, &given);
    if (!status) status = lks_options_check_required(table, given);
    if (!status) return LKS_OK;
    lks_options_free(table, config);
    return lks_fail_in(status, "%s", what);
}
