/* A folder for the files of one test program, made before its tests and removed after them. */
#ifndef LKS_TESTS_TEMP_FOLDER_H
#define LKS_TESTS_TEMP_FOLDER_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char temp_folder[64];

static inline int temp_folder_setup(void **state) {
    (void)state;
    snprintf(temp_folder, sizeof temp_folder, "/tmp/lockstep-test-XXXXXX");
    return mkdtemp(temp_folder) != NULL ? 0 : -1;
}

/* Plain files only: tests make no folders inside. */
static inline int temp_folder_teardown(void **state) {
    (void)state;
    DIR *folder = opendir(temp_folder);
    if (folder == NULL) return -1;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        unlinkat(dirfd(folder), entry->d_name, 0);
    closedir(folder);
    return rmdir(temp_folder);
}

/* The path of a file in the folder, in one of four buffers used in turn. */
static inline const char *temp_path(const char *name) {
    static char paths[4][320];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", temp_folder, name);
    return path;
}

/* Writes a whole file; ends the program where that fails, because no test could go on. */
static inline void temp_write(const char *path, const void *bytes, size_t count) {
    FILE *file = fopen(path, "wb");
    if (file == NULL || (count > 0 && fwrite(bytes, 1, count, file) != count) ||
        fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

#endif
