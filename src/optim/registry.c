#include <string.h>

#include "optim/optimizer.h"

static const lks_optimizer_kind *const kinds[] = {
    &lks_optimizer_sgd,     &lks_optimizer_adam,    &lks_optimizer_adamw,
    &lks_optimizer_rmsprop, &lks_optimizer_adagrad,
};

enum { KIND_COUNT = sizeof kinds / sizeof kinds[0] };

const lks_optimizer_kind *lks_optimizer_find(const char *type) {
    for (int i = 0; i < KIND_COUNT; i++) {
        if (strcmp(kinds[i]->options->name, type) == 0) return kinds[i];
    }
    return NULL;
}

int lks_optimizer_names(const char **out, int capacity) {
    int count = 0;
    while (count < KIND_COUNT && count < capacity) {
        out[count] = kinds[count]->options->name;
        count++;
    }
    return count;
}

const lks_option_table *lks_optimizer_options(const char *type) {
    const lks_optimizer_kind *kind = type ? lks_optimizer_find(type) : NULL;
    return kind ? kind->options : NULL;
}

const char *lks_optimizer_type(int index) {
    return index >= 0 && index < KIND_COUNT ? kinds[index]->options->name : NULL;
}
