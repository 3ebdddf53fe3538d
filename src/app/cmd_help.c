#include <string.h>

#include "app/commands.h"
#include "app/output.h"
#include "app/reference.h"
#include "app/sections.h"

static void print_sections(lks_strbuf *out) {
    lks_strbuf_add(out, "\nSections of a run file:\n ");
    for (int i = 0; lks_section_at(i); i++)
        lks_strbuf_add(out, " %s", lks_section_at(i)->name);
    lks_strbuf_add(out, "\n");
}

/* `help train` is `train --help`. */
static bool find_command(const char *name, lks_command_kind *out) {
    for (int i = 0; i < LKS_COMMAND_COUNT; i++)
        if (strcmp(lks_command_name((lks_command_kind)i), name) == 0) {
            *out = (lks_command_kind)i;
            return true;
        }
    return false;
}

static lks_status print_help(const lks_args *args, lks_strbuf *out) {
    const char *topic = args->operands[0], *type = args->operands[1];
    lks_command_kind kind = args->help_for;
    if (args->markdown) {
        lks_reference_print_markdown(out);
        return LKS_OK;
    }
    if (kind == LKS_COMMAND_HELP && topic && (type || !find_command(topic, &kind)))
        return lks_reference_print_topic(topic, type, out);
    lks_args_print_usage(kind, out);
    if (kind == LKS_COMMAND_HELP) print_sections(out);
    return LKS_OK;
}

lks_status lks_command_help(const lks_args *args) {
    lks_strbuf text = {0};
    return lks_output_text(print_help(args, &text), &text);
}
