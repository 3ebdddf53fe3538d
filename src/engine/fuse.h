/* What neighbouring operations do together, as far as the device says that they can. All of these
 * are asked while a graph is built, before its operations are created. Included by src/engine
 * alone.
 */
#ifndef LKS_ENGINE_FUSE_H
#define LKS_ENGINE_FUSE_H

#include "engine/graph.h"

/* Lets the operation that made the value apply the activation that the plan has behind it. */
bool lks_fuse_activation(lks_graph *graph, const lks_layer_plan *plan, int value);

/* Lets the node do in its backward what it can of the backward of the one in front of it. */
void lks_fuse_backward(lks_graph *graph, lks_node *node);

/* Lets the last node add the two values, if it made one of them; *value is the sum then. */
bool lks_fuse_add_behind(lks_graph *graph, int *value, int second);

/* Lets the planned operation take the place of the add that made its input; NULL: there is none, or
 * it cannot. */
lks_node *lks_fuse_add_in_front(lks_graph *graph, const lks_layer_plan *plan, int value);

#endif
