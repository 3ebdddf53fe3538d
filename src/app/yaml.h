/* YAML text as a tree of nodes that know where they stand. Keys are plain texts and unique in their
 * map; anchors and aliases work (an alias is a copy), tags and merge keys do not. */
#ifndef LKS_APP_YAML_H
#define LKS_APP_YAML_H

#include "app/arena.h"
#include "base/base.h"

typedef enum lks_node_kind { LKS_NODE_SCALAR, LKS_NODE_LIST, LKS_NODE_MAP } lks_node_kind;

typedef struct lks_node lks_node;
struct lks_node {
    lks_node_kind kind;
    const char *source; /* the file's name, or "--set optimizer.lr" */
    int line;           /* of the key in a map, else of the value; from 1; 0: there are no lines */
    const char *key;    /* in a map, else NULL */
    const char *text;   /* of a scalar */
    bool quoted;        /* a scalar in quotes is a text whatever it looks like */
    lks_node *first;    /* of the elements of a list or map */
    lks_node *next;     /* element of the same list or map */
};

/* The tree of one document, in the arena's memory. source: named in messages and nodes, in the
 * arena too. An empty document is a null scalar. LKS_ECONFIG with source, line and what is wrong;
 * LKS_ENOMEM. */
lks_status lks_yaml_parse(lks_arena *arena, const char *source, const char *text, lks_node **out);

/* The element with this key, or NULL. */
lks_node *lks_node_find(const lks_node *map, const char *key);
int lks_node_count(const lks_node *node);
void lks_node_append(lks_node *parent, lks_node *child);
/* A scalar that says "nothing": null, ~ or empty, without quotes. */
bool lks_node_is_null(const lks_node *node);

/* "run.yaml:12" or "--set optimizer.lr"; NULL when out of memory. */
const char *lks_node_where(lks_arena *arena, const lks_node *node);

/* `status` with the node's place in front of a message of printf's form. */
lks_status lks_node_fail(const lks_node *node, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Puts the node's place in front of the recorded error. */
lks_status lks_node_fail_in(const lks_node *node, lks_status status);

#endif
