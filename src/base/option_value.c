#include "base/option_value.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/duration.h"
#include "base/error.h"
#include "base/number.h"

static const struct {
    const char *suffix;
    double bytes;
} units[] = {
    {"TiB", 0x1p40}, {"GiB", 0x1p30}, {"MiB", 0x1p20}, {"KiB", 0x1p10}, {"TB", 1e12},
    {"GB", 1e9},     {"MB", 1e6},     {"KB", 1e3},     {"B", 1},
};
enum { UNIT_COUNT = sizeof units / sizeof *units, BINARY_UNIT_COUNT = 4 };

void *lks_option_member(const lks_option *option, void *config) {
    return (char *)config + option->offset;
}

const void *lks_option_member_const(const lks_option *option, const void *config) {
    return (const char *)config + option->offset;
}

lks_status lks_option_refuse(const lks_option *option, const char *given, const char *problem) {
    lks_strbuf expected = {0};
    lks_option_print_expected(option, &expected);
    lks_status status = expected.failed ? lks_fail(LKS_ENOMEM, "out of memory")
                                        : lks_fail(LKS_ECONFIG, "%s: %s %s: expected %s",
                                                   option->key, given, problem, expected.text);
    lks_strbuf_free(&expected);
    return status;
}

static bool has_bounds(const lks_option *option) {
    return option->low != 0 || option->high != 0;
}

static bool in_bounds(const lks_option *option, double value) {
    if (!has_bounds(option)) return true;
    bool above = option->low_open ? value > option->low : value >= option->low;
    bool below = option->high_open ? value < option->high : value <= option->high;
    return above && below;
}

static bool parse_bool(const char *text, bool *out) {
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcasecmp(text, words[i]) == 0) {
            *out = i % 2 == 1;
            return true;
        }
    return false;
}

/* A number and a unit, with or without a blank between: 25MiB, 1.5 GiB, 4096. */
static bool parse_bytes(const char *text, int64_t *out) {
    if (lks_number_parse_int(text, out)) return true;
    size_t length = strlen(text);
    for (int i = 0; i < UNIT_COUNT; i++) {
        size_t suffix = strlen(units[i].suffix);
        if (length <= suffix || strcasecmp(text + length - suffix, units[i].suffix) != 0) continue;
        double value;
        if (!lks_number_parse_before(text, length - suffix, &value) ||
            fabs(value * units[i].bytes) >= 0x1p62)
            return false;
        *out = (int64_t)(value * units[i].bytes);
        return true;
    }
    return false;
}

static lks_status read_choice(const lks_option *option, const char *text, int *out) {
    for (int i = 0; option->choices[i]; i++)
        if (strcmp(text, option->choices[i]) == 0) {
            *out = i;
            return LKS_OK;
        }
    char given[128];
    snprintf(given, sizeof given, "\"%s\"", text);
    return lks_option_refuse(option, given, "is not a choice");
}

static lks_status read_number(const lks_option *option, const char *text, double *out_float,
                              int64_t *out_int) {
    double value;
    bool ok;
    if (option->word && strcmp(text, option->word) == 0) {
        *out_int = option->word_value;
        return LKS_OK;
    }
    if (out_float) {
        ok = option->type == LKS_OPTION_DURATION ? lks_duration_parse(text, out_float)
                                                 : lks_number_parse_double(text, out_float);
        value = ok ? *out_float : 0;
    } else {
        ok = option->type == LKS_OPTION_BYTES ? parse_bytes(text, out_int)
                                              : lks_number_parse_int(text, out_int);
        value = ok ? (double)*out_int : 0;
    }
    if (ok && in_bounds(option, value)) return LKS_OK;
    char given[128];
    snprintf(given, sizeof given, ok ? "%s" : "\"%s\"", text);
    return lks_option_refuse(option, given, ok ? "is out of range" : "is not valid");
}

lks_status lks_option_read_value(const lks_option *option, const char *text, void *out, int index) {
    switch (option->type) {
    case LKS_OPTION_BOOL:
        if (!parse_bool(text, out)) {
            char given[128];
            snprintf(given, sizeof given, "\"%s\"", text);
            return lks_option_refuse(option, given, "is not valid");
        }
        return LKS_OK;
    case LKS_OPTION_CHOICE:
        return read_choice(option, text, out);
    case LKS_OPTION_INT:
    case LKS_OPTION_BYTES:
    case LKS_OPTION_INT_PAIR:
    case LKS_OPTION_INT_LIST:
        return read_number(option, text, NULL, (int64_t *)out + index);
    case LKS_OPTION_FLOAT:
    case LKS_OPTION_DURATION:
    case LKS_OPTION_FLOAT_PAIR:
    case LKS_OPTION_FLOAT_LIST:
        return read_number(option, text, (double *)out + index, NULL);
    case LKS_OPTION_STRING:
    case LKS_OPTION_PATH:
    case LKS_OPTION_SPEC_LIST:
        break;
    }
    return lks_fail(LKS_EINTERNAL, "option %s has the unknown type %d", option->key,
                    (int)option->type);
}

/* ---- printing ---- */

static void print_float(double value, lks_strbuf *out) {
    char text[LKS_NUMBER_BYTES];
    lks_strbuf_add(out, "%s", lks_number_format_shortest(value, text));
}

static void print_bytes(int64_t value, lks_strbuf *out) {
    for (int i = 0; i < BINARY_UNIT_COUNT; i++) {
        int64_t unit = (int64_t)units[i].bytes;
        if (value != 0 && value % unit == 0) {
            lks_strbuf_add(out, "%" PRId64 "%s", value / unit, units[i].suffix);
            return;
        }
    }
    lks_strbuf_add(out, "%" PRId64, value);
}

static void print_bound(const lks_option *option, double value, lks_strbuf *out) {
    if (option->type == LKS_OPTION_BYTES && value < 0x1p62)
        print_bytes((int64_t)value, out);
    else if (option->type == LKS_OPTION_DURATION)
        lks_duration_print(value, out);
    else
        print_float(value, out);
}

/* " >= 0", " from 1 to 9", " > 0 and <= 1" */
static void print_bounds(const lks_option *option, lks_strbuf *out) {
    bool has_low = option->low != -INFINITY, has_high = option->high != INFINITY;
    bool closed = has_low && has_high && !option->low_open && !option->high_open;
    if (!has_bounds(option)) return;
    if (has_low) {
        lks_strbuf_add(out, closed ? " from " : option->low_open ? " > " : " >= ");
        print_bound(option, option->low, out);
    }
    if (has_high) {
        const char *sign = option->high_open ? "< " : "<= ";
        lks_strbuf_add(out, " %s%s", has_low && !closed ? "and " : "", closed ? "to " : sign);
        print_bound(option, option->high, out);
    }
}

void lks_option_print_expected(const lks_option *option, lks_strbuf *out) {
    static const char *const words[] = {
        [LKS_OPTION_BOOL] = "true or false",
        [LKS_OPTION_INT] = "an integer",
        [LKS_OPTION_FLOAT] = "a number",
        [LKS_OPTION_STRING] = "a text",
        [LKS_OPTION_PATH] = "a path",
        [LKS_OPTION_CHOICE] = "one of",
        [LKS_OPTION_BYTES] = "a size such as 25MiB",
        [LKS_OPTION_DURATION] = "a time such as 90s, 30min, 12h or 1:30:00",
        [LKS_OPTION_INT_PAIR] = "an integer or a list of two, each",
        [LKS_OPTION_FLOAT_PAIR] = "a list of two numbers, each",
        [LKS_OPTION_INT_LIST] = "a list of integers, each",
        [LKS_OPTION_FLOAT_LIST] = "a list of numbers, each",
        [LKS_OPTION_SPEC_LIST] = "a list of types with their options",
    };
    lks_strbuf_add(out, "%s", words[option->type]);
    if (option->type == LKS_OPTION_CHOICE)
        for (int i = 0; option->choices[i]; i++)
            lks_strbuf_add(out, "%s %s", i ? "," : ":", option->choices[i]);
    size_t before = out->length;
    print_bounds(option, out);
    if (option->word) lks_strbuf_add(out, ", or %s", option->word);
    /* "each" belongs to the bounds that follow it */
    bool many = option->type >= LKS_OPTION_INT_PAIR && option->type <= LKS_OPTION_FLOAT_LIST;
    if (many && out->length == before && !out->failed) {
        out->length -= strlen(", each");
        out->text[out->length] = '\0';
    }
}

/* A YAML flow scalar: plain where that reads back as the same text. */
static void print_string(const char *text, lks_strbuf *out) {
    bool plain = isalpha((unsigned char)text[0]) || text[0] == '/' || text[0] == '.';
    bool word;
    double number;
    for (const char *s = text; *s && plain; s++)
        plain = isalnum((unsigned char)*s) || strchr("_-./+", *s);
    if (plain && !parse_bool(text, &word) && !lks_number_parse_double(text, &number) &&
        strcasecmp(text, "null") != 0)
        lks_strbuf_add(out, "%s", text);
    else
        lks_strbuf_add_json(out, text);
}

/* Where the option has a word for it. */
static bool print_word(const lks_option *option, int64_t value, lks_strbuf *out) {
    if (!option->word || value != option->word_value) return false;
    lks_strbuf_add(out, "%s", option->word);
    return true;
}

static void print_ints(const lks_option *option, const int64_t *values, int count,
                       lks_strbuf *out) {
    lks_strbuf_add(out, "[");
    for (int i = 0; i < count; i++) {
        lks_strbuf_add(out, "%s", i ? ", " : "");
        if (!print_word(option, values[i], out)) lks_strbuf_add(out, "%" PRId64, values[i]);
    }
    lks_strbuf_add(out, "]");
}

static void print_floats(const double *values, int count, lks_strbuf *out) {
    lks_strbuf_add(out, "[");
    for (int i = 0; i < count; i++) {
        lks_strbuf_add(out, "%s", i ? ", " : "");
        print_float(values[i], out);
    }
    lks_strbuf_add(out, "]");
}

static void print_texts(const lks_text_list *list, lks_strbuf *out) {
    lks_strbuf_add(out, "[");
    for (int i = 0; i < list->count; i++) {
        lks_strbuf_add(out, "%s", i ? ", " : "");
        lks_strbuf_add_json(out, list->values[i]);
    }
    lks_strbuf_add(out, "]");
}

void lks_option_print(const lks_option *option, const void *config, lks_strbuf *out) {
    const void *member = lks_option_member_const(option, config);
    switch (option->type) {
    case LKS_OPTION_BOOL:
        lks_strbuf_add(out, "%s", *(const bool *)member ? "true" : "false");
        break;
    case LKS_OPTION_INT:
        lks_strbuf_add(out, "%" PRId64, *(const int64_t *)member);
        break;
    case LKS_OPTION_FLOAT:
        print_float(*(const double *)member, out);
        break;
    case LKS_OPTION_STRING:
    case LKS_OPTION_PATH:
        if (*(char *const *)member)
            print_string(*(char *const *)member, out);
        else
            lks_strbuf_add(out, "null");
        break;
    case LKS_OPTION_CHOICE:
        lks_strbuf_add(out, "%s", option->choices[*(const int *)member]);
        break;
    case LKS_OPTION_BYTES:
        if (!print_word(option, *(const int64_t *)member, out))
            print_bytes(*(const int64_t *)member, out);
        break;
    case LKS_OPTION_DURATION:
        lks_duration_print(*(const double *)member, out);
        break;
    case LKS_OPTION_INT_PAIR:
        print_ints(option, member, 2, out);
        break;
    case LKS_OPTION_FLOAT_PAIR:
        print_floats(member, 2, out);
        break;
    case LKS_OPTION_INT_LIST:
        print_ints(option, ((const lks_int_list *)member)->values,
                   ((const lks_int_list *)member)->count, out);
        break;
    case LKS_OPTION_FLOAT_LIST:
        print_floats(((const lks_float_list *)member)->values,
                     ((const lks_float_list *)member)->count, out);
        break;
    case LKS_OPTION_SPEC_LIST:
        print_texts(member, out);
        break;
    }
}
