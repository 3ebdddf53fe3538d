#include "base/strbuf.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

/* Makes room for `count` more bytes and the terminating zero. */
static bool reserve(lks_strbuf *buffer, size_t count) {
    if (buffer->failed) return false;
    if (count < buffer->capacity - buffer->length) return true;
    size_t needed, capacity = buffer->capacity ? buffer->capacity : 64;
    if (__builtin_add_overflow(buffer->length + 1, count, &needed)) capacity = 0;
    while (capacity && capacity < needed)
        capacity = capacity > SIZE_MAX / 2 ? 0 : 2 * capacity;
    char *text = capacity ? realloc(buffer->text, capacity) : NULL;
    if (!text) {
        buffer->failed = true;
        return false;
    }
    buffer->text = text;
    buffer->capacity = capacity;
    return true;
}

void lks_strbuf_add_bytes(lks_strbuf *buffer, const char *bytes, size_t count) {
    if (!reserve(buffer, count)) return;
    if (count) memcpy(buffer->text + buffer->length, bytes, count);
    buffer->length += count;
    buffer->text[buffer->length] = '\0';
}

void lks_strbuf_add(lks_strbuf *buffer, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    if (length < 0)
        buffer->failed = true;
    else if (reserve(buffer, (size_t)length)) {
        vsnprintf(buffer->text + buffer->length, (size_t)length + 1, format, again);
        buffer->length += (size_t)length;
    }
    va_end(again);
    va_end(arguments);
}

/* Bytes of the UTF-8 sequence that starts at `s`; 0 where it is not valid UTF-8. */
static size_t utf8_length(const unsigned char *s) {
    size_t length = s[0] < 0x80   ? 1
                    : s[0] < 0xC2 ? 0
                    : s[0] < 0xE0 ? 2
                    : s[0] < 0xF0 ? 3
                    : s[0] < 0xF5 ? 4
                                  : 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    bool overlong = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xF0 && s[1] < 0x90);
    bool surrogate = s[0] == 0xED && s[1] >= 0xA0;
    bool too_large = s[0] == 0xF4 && s[1] >= 0x90;
    return overlong || surrogate || too_large ? 0 : length;
}

void lks_strbuf_add_json(lks_strbuf *buffer, const char *text) {
    lks_strbuf_add_bytes(buffer, "\"", 1);
    for (const char *s = text; *s;) {
        unsigned char c = (unsigned char)*s;
        size_t length = utf8_length((const unsigned char *)s);
        if (length == 0)
            lks_strbuf_add(buffer, "\\ufffd"); /* such as a file name in Latin-1 */
        else if (c == '"' || c == '\\')
            lks_strbuf_add(buffer, "\\%c", c);
        else if (c == '\n')
            lks_strbuf_add(buffer, "\\n");
        else if (c == '\t')
            lks_strbuf_add(buffer, "\\t");
        else if (c < 0x20 || c == 0x7F)
            lks_strbuf_add(buffer, "\\u%04x", c);
        else
            lks_strbuf_add_bytes(buffer, s, length);
        s += length ? length : 1;
    }
    lks_strbuf_add_bytes(buffer, "\"", 1);
}

void lks_strbuf_add_json_number(lks_strbuf *buffer, double value) {
    char text[LKS_NUMBER_BYTES];
    if (isfinite(value))
        lks_strbuf_add(buffer, "%s", lks_number_format(value, 17, text));
    else
        lks_strbuf_add(buffer, "null");
}

static void add_key(lks_strbuf *buffer, const char *key) {
    lks_strbuf_add(buffer, ", ");
    lks_strbuf_add_json(buffer, key);
    lks_strbuf_add(buffer, ": ");
}

void lks_strbuf_add_text_member(lks_strbuf *buffer, const char *key, const char *value) {
    add_key(buffer, key);
    lks_strbuf_add_json(buffer, value);
}

void lks_strbuf_add_number_member(lks_strbuf *buffer, const char *key, double value) {
    add_key(buffer, key);
    lks_strbuf_add_json_number(buffer, value);
}

void lks_strbuf_free(lks_strbuf *buffer) {
    free(buffer->text);
    *buffer = (lks_strbuf){0};
}

char *lks_strdup(const char *text) {
    return text ? strdup(text) : NULL;
}

char *lks_strdup_printf(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *text = NULL;
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    return length < 0 ? NULL : text;
}
