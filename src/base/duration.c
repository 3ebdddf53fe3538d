#include "base/duration.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"

/* The largest first, as they are tried for printing; "s" last, which others do not end with. */
static const struct {
    const char *suffix;
    double seconds;
} units[] = {{"d", 86400}, {"h", 3600}, {"min", 60}, {"s", 1}};
enum { UNIT_COUNT = sizeof units / sizeof *units };

/* h:mm:ss */
static bool parse_clock(const char *text, double *out) {
    int hours, minutes, seconds, end = 0;
    if (strspn(text, "0123456789:") != strlen(text)) return false;
    if (sscanf(text, "%6d:%2d:%2d%n", &hours, &minutes, &seconds, &end) != 3) return false;
    if (text[end] != '\0' || minutes > 59 || seconds > 59) return false;
    *out = 3600.0 * hours + 60 * minutes + seconds;
    return true;
}

bool lks_duration_parse(const char *text, double *out_seconds) {
    size_t length = strlen(text);
    if (strcmp(text, "0") == 0) {
        *out_seconds = 0;
        return true;
    }
    if (strchr(text, ':')) return parse_clock(text, out_seconds);
    for (int i = 0; i < UNIT_COUNT; i++) {
        size_t suffix = strlen(units[i].suffix), digits = length - suffix;
        if (length <= suffix || strcmp(text + digits, units[i].suffix) != 0) continue;
        double value;
        if (!lks_number_parse_before(text, digits, &value) || !(value >= 0 && value <= 1e9))
            return false;
        *out_seconds = value * units[i].seconds;
        return true;
    }
    return false;
}

void lks_duration_print(double seconds, lks_strbuf *out) {
    char text[LKS_NUMBER_BYTES];
    int unit = 0;
    while (unit < UNIT_COUNT - 1 && fmod(seconds, units[unit].seconds) != 0)
        unit++;
    if (seconds == 0)
        lks_strbuf_add(out, "0");
    else
        lks_strbuf_add(out, "%s%s", lks_number_format_shortest(seconds / units[unit].seconds, text),
                       units[unit].suffix);
}
