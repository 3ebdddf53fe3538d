/* Numbers as text, whatever the process's locale says: a program that embeds Lockstep may have set
 * one that writes 0.5 as 0,5. Inside src/base only. */
#ifndef LKS_BASE_NUMBER_H
#define LKS_BASE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LKS_NUMBER_BYTES = 32 };

/* `value` with `digits` significant digits into text[LKS_NUMBER_BYTES]; returns text. */
const char *lks_number_format(double value, int digits, char *text);

/* The shortest text that reads back as the same number, as YAML writes it (.inf). */
const char *lks_number_format_shortest(double value, char *text);

/* The whole text as a decimal number, with `_` between digits and inf allowed; false for anything
 * else. */
bool lks_number_parse_double(const char *text, double *out);
/* The first `length` characters as a decimal number, blanks behind it allowed: what stands before a
 * unit. */
bool lks_number_parse_before(const char *text, size_t length, double *out);
/* The whole text as a decimal integer; false also where it does not fit. */
bool lks_number_parse_int(const char *text, int64_t *out);

#endif
