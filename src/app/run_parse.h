/* The pieces of which lks_run_parse is made; included by run_*.c alone. */
#ifndef LKS_APP_RUN_PARSE_H
#define LKS_APP_RUN_PARSE_H

#include "app/run_file.h"
#include "app/yaml.h"

typedef struct lks_run_parser {
    lks_arena *arena;
    const char *directory; /* of the run file, with a slash at its end; "" for the current one */
    lks_strbuf resolved;   /* the run file with every override and default filled in */
} lks_run_parser;

lks_status lks_run_out_of_memory(const lks_node *node);

/* ---- run_options.c ---- */

/* What reading a map's options takes. */
typedef struct lks_map_reader {
    const lks_option_table *table;
    const char *what;              /* "layer conv1", NULL at the top level */
    const char *const *other_keys; /* keys that are no options of the table, ended by NULL */
    const char *separator;         /* stands before each "key: value" of the resolved text */
    const lks_option_table *outer; /* of the map whose list this map stands in, or NULL */
} lks_map_reader;

/* All keys of a table behind those of `keys`, both ended by NULL; for other_keys where a map has
 * the options of two tables. NULL when out of memory. */
const char **lks_run_join_keys(lks_arena *arena, const char *const *keys,
                               const lks_option_table *table);

/* Checks a map's options and stores them in `config`, which is then the caller's to free
 * (lks_options_free), also after a failure. *out_text: what was given, in lks_spec's text form.
 * Appends everything, defaults included, to the resolved text. map NULL or null: nothing given. */
lks_status lks_run_read_options(lks_run_parser *parser, const lks_map_reader *reader,
                                const lks_node *map, void *config, const char **out_text);

/* The `type` of a map, or of a scalar that stands for {type: scalar}. *out_table: its options. */
lks_status lks_run_read_type(lks_run_parser *parser, const lks_section *section,
                             const lks_node *node, const char **out_type,
                             const lks_option_table **out_table);

/* A section with a type: `{type: T, options}` or `T` into *out, `name: {...}` into the resolved
 * text after `separator`. */
lks_status lks_run_read_spec(lks_run_parser *parser, const lks_section *section, const char *name,
                             const char *separator, const lks_node *node, lks_spec *out);

/* ---- run_groups.c ---- */

/* One text or a list of texts, as words with blanks between them and, in the resolved text, as a
 * list. */
lks_status lks_run_read_words(lks_run_parser *parser, const lks_node *node, const char *what,
                              const char **out);

/* The section `optimizer` (NULL or null: what *out says), its no_decay and groups. */
lks_status lks_run_read_optimizer(lks_run_parser *parser, const lks_node *node,
                                  lks_train_config *out);

/* ---- run_layers.c ---- */

/* The list `model.layers`; *out is ended by an all-zero element. */
lks_status lks_run_read_layers(lks_run_parser *parser, const lks_node *list,
                               const lks_layer_spec **out);

/* ---- run_override.c ---- */

/* Puts an override's value into the tree. */
lks_status lks_run_override(lks_arena *arena, lks_node *root, const lks_override *override);

#endif
