/* What stands in a checkpoint of a run, put together array by array: the list owns all but the data
 * of its arrays; the groups' and attributes' names are literals. */
#ifndef LKS_TRAIN_STATE_LIST_H
#define LKS_TRAIN_STATE_LIST_H

#include "checkpoint/checkpoint.h"
#include "optim/optim.h"

typedef struct lks_state_list {
    lks_checkpoint_array *arrays;
    lks_checkpoint_attr *attrs;
    int array_count, array_capacity;
    int attr_count, attr_capacity;
    lks_status status; /* the first failure; later additions do nothing */
} lks_state_list;

void lks_state_list_free(lks_state_list *list);
/* The list as lks_checkpoint_write takes it, valid as long as the list. */
lks_checkpoint_content lks_state_list_content(const lks_state_list *list);

/* Adds the array "group/name". Its elements are [first, first + its count) of a flat sequence of
 * which this rank has ranges[range_count] in `data`: element range.offset + i of the sequence is
 * data[range.state_offset + i]. */
void lks_state_list_add_flat(lks_state_list *list, const char *group, const char *name,
                             lks_dtype dtype, const lks_shape *shape, int64_t first, void *data,
                             const lks_range *ranges, int range_count);
/* Adds an array of which this rank has all (mine) or nothing. */
void lks_state_list_add_whole(lks_state_list *list, const char *group, const char *name,
                              lks_dtype dtype, const lks_shape *shape, void *data, bool mine);

void lks_state_list_add_i64(lks_state_list *list, const char *group, const char *name,
                            int64_t value);
void lks_state_list_add_f64(lks_state_list *list, const char *group, const char *name,
                            const double *values, int count);
void lks_state_list_add_text(lks_state_list *list, const char *group, const char *name,
                             const char *text);

#endif
