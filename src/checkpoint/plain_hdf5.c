/* Arrays at the root of an HDF5 file that has nothing else but attributes. As a checkpoint is, it
 * is laid out in memory, where no error of a disk meets HDF5. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/export.h"
#include "h5/h5.h"

static lks_status create_array(lks_h5_file *file, lks_export_array *array) {
    lks_h5_array *data;
    lks_status status = lks_h5_create_array(file, array->name, array->dtype, &array->shape, &data);
    if (status) return status;
    array->offset = lks_h5_array_file_offset(data);
    lks_h5_close_array(data);
    if (array->offset < 0 && array->bytes > 0)
        return lks_fail(LKS_EINTERNAL, "array %s has no place in the file", array->name);
    return LKS_OK;
}

/* *out_memory: the descriptor of the file in memory, the caller's to close; -1 where there is
 * none. */
static lks_status make_in_memory(lks_export_array *arrays, int array_count,
                                 const lks_weights_note *notes, int note_count, int *out_memory) {
    lks_h5_file *file = NULL;
    lks_status status = lks_h5_create_in_memory(out_memory, &file);
    for (int i = 0; !status && i < note_count; i++)
        status = lks_h5_write_attr_text(file, "/", notes[i].name, notes[i].value);
    for (int i = 0; !status && i < array_count; i++)
        status = create_array(file, &arrays[i]);
    lks_status closed = lks_h5_close(file);
    return status ? status : closed;
}

/* All but the holes, which the arrays are. */
static lks_status copy_structure(int memory, int descriptor, const char *path) {
    lks_status status = LKS_OK;
    off_t end = 0, begin;
    while (!status && (begin = lseek(memory, end, SEEK_DATA)) >= 0) {
        end = lseek(memory, begin, SEEK_HOLE);
        if (end < 0) break;
        status = lks_file_copy(memory, "a file in memory", descriptor, path, begin, end);
    }
    if (!status && errno != ENXIO) /* which says that there are no more data */
        status = lks_fail(LKS_EIO, "cannot read a file in memory: %s", strerror(errno));
    return status;
}

static lks_status lay_out(lks_export_array *arrays, int array_count, const lks_weights_note *notes,
                          int note_count, int descriptor, const char *path) {
    struct stat info;
    int memory = -1;
    lks_status status = make_in_memory(arrays, array_count, notes, note_count, &memory);
    if (!status && fstat(memory, &info) != 0)
        status = lks_fail(LKS_EIO, "cannot see the size of a file in memory: %s", strerror(errno));
    if (!status) status = lks_file_reserve(descriptor, path, info.st_size);
    if (!status && ftruncate(descriptor, info.st_size) != 0)
        status = lks_fail(LKS_EIO, "cannot give %s its size: %s", path, strerror(errno));
    if (!status) status = copy_structure(memory, descriptor, path);
    if (memory >= 0) close(memory);
    return status;
}

const lks_weights_format lks_plain_hdf5_format = {
    .name = "hdf5",
    .suffixes = {".h5", ".hdf5"},
    .lay_out = lay_out,
};
