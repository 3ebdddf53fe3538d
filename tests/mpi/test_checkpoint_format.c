/* docs/checkpoint-format.md against a checkpoint that a run has just written: every object and
 * attribute of the file is in the page's tables, and the other way round. One rank. */
#include <unistd.h>

#include "h5/h5.h"
#include "mpi/train_case.h"
#include "train/trainer.h"

enum { ENTRIES = 256, NAME_BYTES = 96, LINE_BYTES = 1024 };

/* A row's name: an array's path with <wildcards> as "*", or an attribute's "/group@name". */
typedef struct entry {
    char name[NAME_BYTES];
    bool optional, found;
} entry;

typedef struct page {
    entry entries[ENTRIES];
    int count;
} page;

static void add_entry(page *p, const char *group, const char *name, bool optional) {
    entry *e = &p->entries[p->count];
    MPI_REQUIRE(p->count + 1 < ENTRIES);
    size_t used = 0;
    const char *parts[] = {group, group[0] ? "@" : "", name};
    for (int i = 0; i < 3; i++) {
        for (const char *c = parts[i]; *c && used + 1 < NAME_BYTES; c++) {
            e->name[used++] = *c == '<' ? '*' : *c;
            if (*c == '<') c += strcspn(c, ">");
        }
    }
    e->name[used] = '\0';
    e->optional = optional;
    p->count++;
}

/* The texts between back ticks in cell `index` of a row, at most 8; the number of them. */
static int read_cell(const char *row, int index, char names[8][NAME_BYTES]) {
    for (int i = 0; i <= index && row; i++)
        row = strchr(row + (i > 0), '|');
    if (!row) return 0;
    const char *end = strchr(row + 1, '|');
    int count = 0;
    for (const char *at = row; end && (at = strchr(at, '`')) && at < end && count < 8;) {
        const char *closing = strchr(at + 1, '`');
        if (!closing || closing > end) break;
        snprintf(names[count++], NAME_BYTES, "%.*s", (int)(closing - at - 1), at + 1);
        at = closing + 1;
    }
    return count;
}

/* Only what stands behind "## What is in it" and before "## Integrity". */
static void read_page(page *p) {
    FILE *file = fopen(LKS_SOURCE_DIR "/docs/checkpoint-format.md", "r");
    char line[LINE_BYTES], section[64] = "", group[NAME_BYTES] = "", names[8][NAME_BYTES];
    bool inside = false;
    MPI_REQUIRE(file);
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "## ", 3) == 0) inside = strncmp(line, "## What is in it", 16) == 0;
        if (strncmp(line, "### ", 4) == 0) snprintf(section, sizeof section, "%.60s", line + 4);
        if (!inside || line[0] != '|') continue;
        bool optional = strstr(line, "may be absent") || strstr(line, "only ");
        if (strncmp(section, "Attributes of groups", 20) == 0) {
            if (read_cell(line, 0, names) > 0) snprintf(group, sizeof group, "%s", names[0]);
            int count = read_cell(line, 1, names);
            for (int i = 0; i < count; i++)
                add_entry(p, group, names[i], optional);
        } else {
            bool root = strncmp(section, "The root", 8) == 0;
            int count = read_cell(line, 0, names);
            for (int i = 0; i < count; i++)
                add_entry(p, root ? "/" : "", names[i], optional);
        }
    }
    fclose(file);
}

static void look_up(page *p, const char *name) {
    bool known = false;
    for (int i = 0; i < p->count; i++) {
        if (!lks_glob_match(p->entries[i].name, name)) continue;
        p->entries[i].found = known = true;
    }
    if (!known) print_error("not in docs/checkpoint-format.md: %s\n", name);
    MPI_CHECK(known);
}

typedef struct walk {
    lks_h5_file *file;
    page *page;
} walk;

static lks_status visit_attribute(void *data, const char *path, const char *name) {
    walk *w = data;
    char full[2 * NAME_BYTES];
    snprintf(full, sizeof full, "%s%s@%s", path[0] == '/' ? "" : "/", path, name);
    look_up(w->page, full);
    return LKS_OK;
}

static lks_status visit_object(void *data, const char *path, bool is_group,
                               const lks_h5_info *info) {
    (void)info;
    walk *w = data;
    char full[2 * NAME_BYTES];
    snprintf(full, sizeof full, "/%s", path);
    if (!is_group) look_up(w->page, full);
    return lks_h5_visit_attrs(w->file, path, visit_attribute, w);
}

static void the_page_and_the_file_say_the_same(void **state) {
    (void)state;
    static train_case run;
    static page page;
    const char *path = "format-page.h5";
    lks_train_config config = case_config();
    config.early_stopping = "monitor=val_loss patience=10 restore_best=true";
    REQUIRE_OK(case_open(&run, MPI_COMM_WORLD, &config));
    REQUIRE_OK(lks_fit(run.trainer));
    REQUIRE_OK(lks_trainer_save(run.trainer, path));
    case_close(&run);

    read_page(&page);
    walk w = {.page = &page};
    REQUIRE_OK(lks_h5_open(path, &w.file));
    REQUIRE_OK(lks_h5_visit_attrs(w.file, "/", visit_attribute, &w));
    REQUIRE_OK(lks_h5_visit(w.file, "/", visit_object, &w));
    lks_h5_close(w.file);
    unlink(path);
    MPI_CHECK(page.count > 40);
    for (int i = 0; i < page.count; i++) {
        const entry *e = &page.entries[i];
        if (!e->found && !e->optional) print_error("not in the file: %s\n", e->name);
        MPI_CHECK(e->found || e->optional);
    }
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_and_the_file_say_the_same),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
