/* The text form of options, `key=value key=[1,2] key="a b"`. Inside src/base only. */
#ifndef LKS_BASE_OPTION_TEXT_H
#define LKS_BASE_OPTION_TEXT_H

#include "base/option.h"

/* One `key=value`, owned by whoever got it. */
typedef struct lks_option_token {
    char *key; /* NULL: the text is at its end */
    char **values;
    int count;
    bool as_list;
} lks_option_token;

/* Reads the next token from *text and moves *text behind it. LKS_ECONFIG, LKS_ENOMEM: *out is
 * empty. */
lks_status lks_option_next_token(const char **text, lks_option_token *out);
void lks_option_token_free(lks_option_token *token);

/* lks_option_assign from the text of one value: `3`, `[0.9, 0.999]`; a text or path is taken as it
 * stands. */
lks_status lks_option_assign_text(const lks_option *option, void *config, const char *text);

#endif
