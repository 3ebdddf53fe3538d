/* Any text as a run file, and what stands behind a zero byte, "KEY=VALUE", as an override. What is
 * accepted is resolved, and the resolved text is a run file that resolves to itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "app/run_file.h"
#include "fault/fuzz/fuzz.h"

static const char *const files[] = {"examples/digits/digits.yaml", "bench/cnn.yaml",
                                    "tests/e2e/small.yaml"};

/* ---- seeds: real run files, and the examples of every section ---- */

static void write_seed(int number, const char *text) {
    char path[64];
    snprintf(path, sizeof path, "seeds/%d", number);
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0) abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    int seeds = 0;
    (void)argc, (void)argv;
    mkdir("seeds", 0700);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[512], *text;
        snprintf(path, sizeof path, "%s/%s", LKS_SOURCE_DIR, files[i]);
        if (lks_run_read_text(path, &text)) abort();
        write_seed(seeds++, text);
        free(text);
    }
    const lks_section *section;
    for (int i = 0; (section = lks_section_at(i)) != NULL; i++)
        if (section->example) write_seed(seeds++, section->example);
    return 0;
}

/* ---- one input ---- */

static lks_status parse(const char *text, const lks_override *override, lks_run *out) {
    return lks_run_parse("run.yaml", text, override, override ? 1 : 0, out);
}

static void check_resolved(const lks_run *run) {
    lks_run again;
    const char *resolved = run->config.run_file;
    if (parse(resolved, NULL, &again)) {
        fprintf(stderr, "refused: %s\n%s", lks_last_error(), resolved);
        abort();
    }
    if (strcmp(resolved, again.config.run_file) != 0) {
        fprintf(stderr, "resolved:\n%s\nagain:\n%s", resolved, again.config.run_file);
        abort();
    }
    lks_run_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    char *text = malloc(bytes + 1);
    if (!text) return 0;
    memcpy(text, data, bytes);
    text[bytes] = '\0';
    const size_t length = strlen(text);
    lks_override override = {.key = length < bytes ? text + length + 1 : NULL};
    char *equals = override.key ? strchr(override.key, '=') : NULL;
    if (equals) *equals = '\0';
    override.value = equals ? equals + 1 : NULL;
    lks_run run;
    if (parse(text, equals ? &override : NULL, &run)) {
        if (!*lks_last_error()) abort(); /* refused without a word */
    } else {
        check_resolved(&run);
        lks_run_free(&run);
    }
    free(text);
    return 0;
}
