#include "base/number.h"

#include <ctype.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_TEXT = 64 };

const char *lks_number_format(double value, int digits, char *text) {
    snprintf(text, LKS_NUMBER_BYTES, "%.*g", digits, value);
    /* The locale's decimal point, one or more bytes, becomes a point. */
    const char *point = localeconv()->decimal_point;
    char *found = strcmp(point, ".") != 0 ? strstr(text, point) : NULL;
    if (found) {
        size_t length = strlen(point);
        memmove(found + 1, found + length, strlen(found + length) + 1);
        *found = '.';
    }
    return text;
}

const char *lks_number_format_shortest(double value, char *text) {
    if (isinf(value)) return strcpy(text, value < 0 ? "-.inf" : ".inf");
    if (fabs(value) < 1e15 && value == floor(value)) {
        snprintf(text, LKS_NUMBER_BYTES, "%.0f", value); /* 1000000, not 1e+06 */
        return text;
    }
    for (int digits = 1; digits <= 17; digits++) {
        double back;
        lks_number_format(value, digits, text);
        if (lks_number_parse_double(text, &back) && back == value) break;
    }
    return text;
}

/* Copies `text` without the underscores that stand between digits; false where one stands
 * elsewhere, where the text is too long, or where it has a character that is not in `allowed` or a
 * digit. */
static bool copy_number(const char *text, const char *allowed, char *out) {
    size_t length = 0;
    for (const char *s = text; *s; s++) {
        bool digit = isdigit((unsigned char)*s);
        if (*s == '_') {
            if (s == text || !isdigit((unsigned char)s[-1]) || !isdigit((unsigned char)s[1]))
                return false;
            continue;
        }
        if ((!digit && !strchr(allowed, *s)) || length + 1 >= MAX_TEXT) return false;
        out[length++] = *s;
    }
    out[length] = '\0';
    return length > 0;
}

static bool parse_infinity(const char *text, double *out) {
    const char *word = text + (text[0] == '+' || text[0] == '-');
    if (strcasecmp(word, "inf") != 0 && strcasecmp(word, ".inf") != 0) return false;
    *out = text[0] == '-' ? -INFINITY : INFINITY;
    return true;
}

bool lks_number_parse_double(const char *text, double *out) {
    char number[MAX_TEXT];
    if (parse_infinity(text, out)) return true;
    if (!copy_number(text, "+-.eE", number)) return false;
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!plain) return false;
    char *end;
    double value = strtod_l(number, &end, plain);
    freelocale(plain);
    if (end == number || *end != '\0' || !isfinite(value)) return false;
    *out = value;
    return true;
}

bool lks_number_parse_before(const char *text, size_t length, double *out) {
    char number[LKS_NUMBER_BYTES];
    while (length > 0 && text[length - 1] == ' ')
        length--;
    if (length == 0 || length >= sizeof number) return false;
    memcpy(number, text, length);
    number[length] = '\0';
    return lks_number_parse_double(number, out);
}

bool lks_number_parse_int(const char *text, int64_t *out) {
    char number[MAX_TEXT];
    if (!copy_number(text, "+-", number)) return false;
    char *end;
    errno = 0;
    long long value = strtoll(number, &end, 10);
    if (errno || end == number || *end != '\0') return false;
    *out = value;
    return true;
}
