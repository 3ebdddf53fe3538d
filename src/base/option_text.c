#include "base/option_text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static const char *skip_blanks(const char *s) {
    while (isspace((unsigned char)*s))
        s++;
    return s;
}

void lks_option_token_free(lks_option_token *token) {
    for (int i = 0; i < token->count; i++)
        free(token->values[i]);
    free(token->values);
    free(token->key);
    *token = (lks_option_token){0};
}

/* Takes over `value`, also when it fails. */
static lks_status add_value(lks_option_token *token, char *value) {
    char **values = realloc(token->values, (size_t)(token->count + 1) * sizeof *values);
    if (values) token->values = values;
    if (!values || !value) {
        free(value);
        return lks_fail(LKS_ENOMEM, "out of memory");
    }
    token->values[token->count++] = value;
    return LKS_OK;
}

/* A double-quoted text from *s (the quote) into one value. */
static lks_status read_quoted(const char **s, lks_option_token *token) {
    lks_strbuf value = {0};
    const char *p = *s + 1;
    lks_strbuf_add_bytes(&value, "", 0);
    for (; *p && *p != '"'; p++) {
        if (*p == '\\' && p[1]) p++;
        lks_strbuf_add_bytes(&value, p, 1);
    }
    if (*p != '"') {
        lks_strbuf_free(&value);
        return lks_fail(LKS_ECONFIG, "%s: the closing quote is missing", token->key);
    }
    *s = p + 1;
    return add_value(token, value.failed ? NULL : value.text);
}

/* An element of a list from *s: a quoted text, or a number or word up to the next comma. */
static lks_status read_element(const char **s, lks_option_token *token) {
    if (**s == '"') return read_quoted(s, token);
    size_t length = strcspn(*s, ",]");
    const char *element = *s;
    *s += length;
    while (length > 0 && isspace((unsigned char)element[length - 1]))
        length--;
    if (length == 0)
        return lks_fail(LKS_ECONFIG, "%s: an element of the list is empty", token->key);
    return add_value(token, strndup(element, length));
}

/* A list from *s (the bracket), its elements separated by commas. */
static lks_status read_list(const char **s, lks_option_token *token) {
    const char *p = skip_blanks(*s + 1);
    token->as_list = true;
    while (*p && *p != ']') {
        lks_status status = read_element(&p, token);
        if (status) return status;
        p = skip_blanks(p);
        if (*p == ',')
            p = skip_blanks(p + 1);
        else if (*p && *p != ']')
            return lks_fail(LKS_ECONFIG, "%s: \"%.40s\" follows an element without a comma",
                            token->key, p);
    }
    if (*p != ']')
        return lks_fail(LKS_ECONFIG, "%s: the closing bracket of the list is missing", token->key);
    *s = p + 1;
    return LKS_OK;
}

static lks_status read_value(const char **s, lks_option_token *token) {
    if (**s == '"') return read_quoted(s, token);
    if (**s == '[') return read_list(s, token);
    size_t length = 0;
    while ((*s)[length] && !isspace((unsigned char)(*s)[length]))
        length++;
    const char *value = *s;
    *s += length;
    return add_value(token, strndup(value, length));
}

lks_status lks_option_next_token(const char **text, lks_option_token *out) {
    *out = (lks_option_token){0};
    const char *s = skip_blanks(*text);
    *text = s;
    if (!*s) return LKS_OK;
    size_t length = strcspn(s, "= \t\n");
    if (length == 0 || s[length] != '=')
        return lks_fail(LKS_ECONFIG, "\"%.40s\" is not of the form key=value", s);
    out->key = strndup(s, length);
    if (!out->key) return lks_fail(LKS_ENOMEM, "out of memory");
    s += length + 1;
    lks_status status = read_value(&s, out);
    if (!status && *s && !isspace((unsigned char)*s))
        status =
            lks_fail(LKS_ECONFIG, "%s: \"%.40s\" follows the value without a blank", out->key, s);
    if (status) lks_option_token_free(out);
    *text = s;
    return status;
}

lks_status lks_option_assign_text(const lks_option *option, void *config, const char *text) {
    if (text[0] != '[' || option->type == LKS_OPTION_STRING || option->type == LKS_OPTION_PATH)
        return lks_option_assign(option, config, &text, 1, false);
    lks_option_token token = {.key = lks_strdup(option->key)};
    lks_status status =
        token.key ? read_list(&text, &token) : lks_fail(LKS_ENOMEM, "out of memory");
    if (!status)
        status = lks_option_assign(option, config, (const char *const *)token.values, token.count,
                                   token.as_list);
    lks_option_token_free(&token);
    return status;
}

static void append_value(lks_strbuf *out, const char *value, bool in_list) {
    bool plain = *value && *value != '[' && *value != '"';
    for (const char *s = value; *s && plain; s++)
        plain = !isspace((unsigned char)*s) && !(in_list && (*s == ',' || *s == ']'));
    if (plain) {
        lks_strbuf_add(out, "%s", value);
        return;
    }
    lks_strbuf_add(out, "\"");
    for (const char *s = value; *s; s++)
        lks_strbuf_add(out, *s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
    lks_strbuf_add(out, "\"");
}

void lks_options_append_text(lks_strbuf *out, const char *key, const char *const *values, int count,
                             bool as_list) {
    lks_strbuf_add(out, "%s%s=", out->length ? " " : "", key);
    if (count == 1 && !as_list) {
        append_value(out, values[0], false);
        return;
    }
    lks_strbuf_add(out, "[");
    for (int i = 0; i < count; i++) {
        lks_strbuf_add(out, "%s", i ? "," : "");
        append_value(out, values[i], true);
    }
    lks_strbuf_add(out, "]");
}
