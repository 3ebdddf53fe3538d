#include "base/cgroup.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

bool lks_cgroup_read(const char *folder, const char *name, char *text, size_t bytes) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) return false;
    FILE *file = fopen(path, "r");
    if (!file) return false;
    size_t length = fread(text, 1, bytes - 1, file);
    fclose(file);
    text[length] = '\0';
    return length > 0;
}

/* The group at mount/group and all its parents up to the mount. */
static void visit_upwards(const char *mount, const char *group, lks_cgroup_fn visit, void *data) {
    char folder[PATH_MAX];
    if (snprintf(folder, sizeof folder, "%s%s", mount, group) >= (int)sizeof folder) return;
    size_t mount_length = strlen(mount);
    for (;;) {
        visit(data, folder);
        if (strlen(folder) <= mount_length) return;
        *strrchr(folder, '/') = '\0';
    }
}

/* Is the controller in a list such as "cpu,cpuacct"? */
static bool has_controller(const char *list, const char *controller) {
    size_t length = strlen(controller);
    for (const char *at = list; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, controller, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    }
    return false;
}

/* One line of /proc/PID/cgroup: "ID:CONTROLLERS:GROUP", CONTROLLERS empty in version 2. */
static void visit_line(const char *root, char *line, const char *controller, lks_cgroup_fn visit,
                       void *data) {
    char *controllers = strchr(line, ':');
    char *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group) return;
    *group++ = '\0';
    controllers++;
    char mount[PATH_MAX];
    if (strcmp(group, "/") == 0) group = "";
    if (controllers[0] == '\0') {
        visit_upwards(root, group, visit, data);
    } else if (has_controller(controllers, controller) &&
               snprintf(mount, sizeof mount, "%s/%s", root, controller) < (int)sizeof mount) {
        visit_upwards(mount, group, visit, data);
    }
}

void lks_cgroup_visit(const char *root, const char *membership, const char *controller,
                      lks_cgroup_fn visit, void *data) {
    char line[PATH_MAX];
    while (*membership) {
        size_t length = strcspn(membership, "\n");
        if (length < sizeof line) {
            memcpy(line, membership, length);
            line[length] = '\0';
            visit_line(root, line, controller, visit, data);
        }
        membership += length + (membership[length] == '\n');
    }
}

void lks_cgroup_visit_own(const char *controller, lks_cgroup_fn visit, void *data) {
    char membership[8192];
    if (lks_cgroup_read("/proc/self", "cgroup", membership, sizeof membership))
        lks_cgroup_visit("/sys/fs/cgroup", membership, controller, visit, data);
}
