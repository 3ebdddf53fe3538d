#include "app/reference.h"

#include <string.h>

#include "app/sections.h"

/* Keys of a section beside those of its tables. */
typedef struct extra_key {
    const char *section, *key, *takes, *standard, *help;
    bool containers_only;
} extra_key;

static const extra_key extra_keys[] = {
    {"data", "train", "a map with a `type`", "required to train", "The training data set.", false},
    {"data", "validation", "a map with a `type`", "none", "The validation data set.", false},
    {"optimizer", "no_decay", "`bias`, `norm`, or a list of them", "none",
     "Parameters whose weight_decay is 0 unless their group sets it: every `bias`, those of "
     "normalisation layers.",
     false},
    {"optimizer", "groups", "a list of maps", "none",
     "Parameters with settings of their own (see \"group\").", false},
    {"group", "params", "a pattern or a list of patterns", "required",
     "Which parameters: shell patterns of their names in the checkpoint.", false},
    {"init_from", "params", "a pattern or a list of patterns", "all",
     "The parameters and buffers to take, by their names.", false},
    {"init_from", "exclude", "a pattern or a list of patterns", "none",
     "Of these, which not to take.", false},
};
enum { EXTRA_COUNT = sizeof extra_keys / sizeof *extra_keys };

static bool has_extra(const lks_section *section) {
    for (int i = 0; i < EXTRA_COUNT; i++)
        if (strcmp(extra_keys[i].section, section->name) == 0) return true;
    return false;
}

static void print_default(const lks_option *option, lks_strbuf *out) {
    lks_strbuf_add(out, "%s",
                   option->text       ? *option->text ? option->text : "\"\""
                   : option->optional ? "none"
                                      : "required");
}

/* ---- markdown ---- */

/* A table's cell: a bar would end it. */
static void print_cell(const char *text, lks_strbuf *out) {
    for (const char *s = text; *s; s++)
        lks_strbuf_add(out, *s == '|' ? "\\|" : "%c", *s);
}

static void print_row(const lks_option *option, lks_strbuf *out) {
    lks_strbuf expected = {0};
    lks_option_print_expected(option, &expected);
    lks_strbuf_add(out, "| `%s` | ", option->key);
    print_cell(expected.failed ? "" : expected.text, out);
    lks_strbuf_add(out, option->text ? " | `" : " | ");
    print_default(option, out);
    lks_strbuf_add(out, option->text ? "` | " : " | ");
    print_cell(option->help ? option->help : "", out);
    lks_strbuf_add(out, " |\n");
    out->failed = out->failed || expected.failed;
    lks_strbuf_free(&expected);
}

/* section: its keys beside those of its tables stand first; table: then its options. Either may be
 * NULL. */
static void print_table(const lks_section *section, const lks_option_table *table,
                        lks_strbuf *out) {
    bool extra = section && has_extra(section);
    if (!extra && !(table && table->options->key)) {
        lks_strbuf_add(out, "No options.\n\n");
        return;
    }
    lks_strbuf_add(out, "| Key | Takes | Default | Meaning |\n|---|---|---|---|\n");
    for (int i = 0; extra && i < EXTRA_COUNT; i++)
        if (strcmp(extra_keys[i].section, section->name) == 0)
            lks_strbuf_add(out, "| `%s` | %s | %s | %s |\n", extra_keys[i].key, extra_keys[i].takes,
                           extra_keys[i].standard, extra_keys[i].help);
    for (const lks_option *option = table ? table->options : NULL; option && option->key; option++)
        print_row(option, out);
    lks_strbuf_add(out, "\n");
}

static void print_section(const lks_section *section, lks_strbuf *out) {
    lks_strbuf_add(out, "## %s\n\n", section->name);
    if (section->key) lks_strbuf_add(out, "In the run file: `%s`. ", section->key);
    lks_strbuf_add(out, "%s\n\n```yaml\n%s```\n\n", section->help, section->example);
    if (section->table) {
        print_table(section, section->table, out);
        return;
    }
    if (has_extra(section)) print_table(section, NULL, out);
    for (int i = 0; section->type(i); i++) {
        const lks_option_table *table = section->options(section->type(i));
        lks_strbuf_add(out, "### %s: `%s`\n\n%s\n\n", section->name, table->name, table->help);
        print_table(NULL, table, out);
    }
}

static const char introduction[] =
    "# The run file\n"
    "\n"
    "<!-- Made by `lockstep help --markdown > docs/config.md`; do not edit. -->\n"
    "\n"
    "A run file is one YAML text that describes a whole experiment: data, model, loss, optimizer, "
    "schedule, and what is kept. `lockstep train RUN.yaml` reads it.\n"
    "\n"
    "- Keys that are unknown, given twice or of the wrong kind are errors that name file and "
    "line.\n"
    "- `lockstep config RUN.yaml` checks a run file and prints it with every default filled in; "
    "the same text stands in `config.yaml` of the run directory and in every checkpoint.\n"
    "- `--set KEY=VALUE` puts a value in the place of what the file says: `--set "
    "optimizer.lr=3e-4`, `--set model.layers.0.out_channels=8`, `--set "
    "model.layers.conv1.out_channels=8`, `--set \"schedule={type: step, step_size: 5}\"`, `--set "
    "early_stopping=null`. VALUE is YAML.\n"
    "- Where a section has types, the type alone stands for the type with all defaults: `relu` "
    "for `{type: relu}`.\n"
    "- A key with a dot stands in a map of its own: `every.steps` is `every: {steps: 500}`, and "
    "`--set checkpoint.every.steps=500`.\n"
    "- Numbers may be grouped, `1_000_000`; sizes have units, `25MiB`; a pair such as a kernel's "
    "size is `3` or `[3, 5]`.\n"
    "- `lockstep help SECTION [TYPE]` prints what this page says of a section or a type.\n"
    "\n";

void lks_reference_print_markdown(lks_strbuf *out) {
    lks_strbuf_add(out, "%s", introduction);
    for (int i = 0; lks_section_at(i); i++)
        print_section(lks_section_at(i), out);
    if (!out->failed) out->text[--out->length] = '\0'; /* the empty line after the last table */
}

/* ---- plain text ---- */

static void print_options_text(const lks_option_table *table, lks_strbuf *out) {
    if (!table->options->key) lks_strbuf_add(out, "  no options\n");
    for (const lks_option *option = table->options; option->key; option++) {
        lks_strbuf_add(out, "  %s: ", option->key);
        lks_option_print_expected(option, out);
        lks_strbuf_add(out, option->text ? " (default " : " (");
        print_default(option, out);
        lks_strbuf_add(out, ")\n      %s\n", option->help ? option->help : "");
    }
}

static void print_type_text(const lks_section *section, const lks_option_table *table,
                            lks_strbuf *out) {
    lks_strbuf_add(out, "%s %s: %s\n\n", section->name, table->name, table->help);
    print_options_text(table, out);
}

static void print_extra_text(const lks_section *section, lks_strbuf *out) {
    for (int i = 0; i < EXTRA_COUNT; i++) {
        const extra_key *key = &extra_keys[i];
        if (strcmp(key->section, section->name) == 0)
            lks_strbuf_add(out, "  %s: %s (%s)\n      %s\n", key->key, key->takes, key->standard,
                           key->help);
    }
}

static void print_section_text(const lks_section *section, lks_strbuf *out) {
    lks_strbuf_add(out, "%s\n\n", section->help);
    for (const char *line = section->example; *line; line += strcspn(line, "\n") + 1)
        lks_strbuf_add(out, "    %.*s\n", (int)strcspn(line, "\n"), line);
    lks_strbuf_add(out, "\n");
    print_extra_text(section, out);
    if (section->table) {
        print_options_text(section->table, out);
        return;
    }
    if (has_extra(section)) lks_strbuf_add(out, "\n");
    lks_strbuf_add(out, "Types (`lockstep help %s TYPE` lists the options of one):\n",
                   section->name);
    for (int i = 0; section->type(i); i++)
        lks_strbuf_add(out, "  %-20s %s\n", section->type(i),
                       section->options(section->type(i))->help);
}

static lks_status refuse_topic(const char *topic) {
    enum { MAX_TOPICS = 256 };
    const char *topics[MAX_TOPICS];
    size_t count = 0;
    const lks_section *section;
    for (int i = 0; (section = lks_section_at(i)); i++) {
        topics[count++] = section->name;
        for (int j = 0; section->type && section->type(j) && count < MAX_TOPICS - 1; j++)
            topics[count++] = section->type(j);
    }
    const char *nearest = lks_nearest_name(topic, topics, count);
    return nearest ? lks_fail(LKS_EUSAGE, "help: nothing is called \"%s\": did you mean \"%s\"?",
                              topic, nearest)
                   : lks_fail(LKS_EUSAGE,
                              "help: nothing is called \"%s\": `lockstep help` lists the "
                              "commands and sections",
                              topic);
}

lks_status lks_reference_print_topic(const char *topic, const char *type, lks_strbuf *out) {
    const lks_section *section = lks_section_find(topic);
    const lks_option_table *table;
    if (section && !type) {
        print_section_text(section, out);
        return LKS_OK;
    }
    if (section) {
        if (!section->type)
            return lks_fail(LKS_EUSAGE, "help: the section \"%s\" has no types", topic);
        if (lks_section_type(section, type, &table)) return lks_fail_in(LKS_EUSAGE, "help");
        print_type_text(section, table, out);
        return LKS_OK;
    }
    for (int i = 0; !type && (section = lks_section_at(i)); i++)
        if (section->type && (table = section->options(topic))) {
            print_type_text(section, table, out);
            return LKS_OK;
        }
    return refuse_topic(topic);
}
