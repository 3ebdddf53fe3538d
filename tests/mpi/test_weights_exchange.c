/* Weights that go out to other programs' files, and come in from them. */
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>

#include "checkpoint/exchange.h"
#include "checkpoint/safetensors.h"
#include "checkpoint_folder.h"
#include "full_disk.h"
#include "h5/h5.h"

/* Larger than what an export holds in memory, in a shape that no block boundary fits. */
enum { ROWS = 7, COLUMNS = 700001, BIG = ROWS * COLUMNS, SMALL = 3 };
_Static_assert(BIG * sizeof(float) > LKS_EXPORT_BUFFER_BYTES, "more than one buffer");

static const lks_weights_note notes[] = {{"epoch", "3"}, {"val_loss", "0.25"}};
enum { NOTE_COUNT = sizeof notes / sizeof *notes };

static float value_of(int64_t index) {
    return (float)((uint32_t)index * 2654435761u >> 8) / 65536.0f;
}

static float *make_values(int64_t count) {
    float *values = malloc((size_t)count * sizeof *values);
    if (!values) MPI_Abort(MPI_COMM_WORLD, 1);
    for (int64_t i = 0; i < count; i++)
        values[i] = value_of(i);
    return values;
}

/* A checkpoint with a model, and with an array that is no part of it. The counter stands between
 * arrays with odd numbers of elements, so that it would not be aligned where it stands. Collective.
 */
static lks_status save(const char *path) {
    float *values = make_values(BIG);
    int64_t counter = (int64_t)1 << 40;
    lks_piece pieces[] = {{0, SMALL, values}, {0, 1, &counter}, {0, BIG, values}, {0, 0, NULL}};
    int mine = mpi_check_rank() == 0;
    lks_checkpoint_array arrays[] = {
        {"/model/bn.bias", LKS_F32, {1, {SMALL}}, &pieces[0], mine},
        {"/model/bn.num_batches_tracked", LKS_I64, {0, {0}}, &pieces[1], mine},
        {"/model/fc.weight", LKS_F32, {2, {ROWS, COLUMNS}}, &pieces[2], mine},
        {"/model/none", LKS_F32, {2, {0, 5}}, &pieces[3], mine},
        {"/modelling/no.weight", LKS_F32, {1, {SMALL}}, &pieces[0], mine},
        {"/optimizer/exp_avg/bn.bias", LKS_F32, {1, {SMALL}}, &pieces[0], mine},
    };
    lks_checkpoint_content content = {.arrays = arrays,
                                      .array_count = sizeof arrays / sizeof *arrays};
    lks_status status = lks_checkpoint_write(world, path, &content, LKS_TRANSFER_INDEPENDENT);
    free(values);
    return status;
}

/* Local. */
static lks_status export_to(const char *from, const char *format_name, const char *path,
                            lks_exchange_summary *out) {
    lks_checkpoint *checkpoint;
    const lks_weights_format *format;
    lks_status status = lks_weights_format_find(format_name, path, &format);
    if (!status) status = lks_checkpoint_open(from, &checkpoint);
    if (status) return status;
    status = lks_weights_export(checkpoint, "/model", notes, NOTE_COUNT, format, path, out);
    lks_checkpoint_close(checkpoint);
    return status;
}

static bool same_values(const float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (values[i] != value_of(i)) return false;
    return true;
}

/* ---- safetensors ---- */

static const lks_tensor *find_tensor(const lks_safetensors *file, const char *name) {
    for (int i = 0; i < file->tensor_count; i++)
        if (strcmp(file->tensors[i].name, name) == 0) return &file->tensors[i];
    return NULL;
}

static void check_safetensors(const char *path) {
    lks_safetensors file;
    MPI_CHECK(lks_safetensors_open(path, &file) == LKS_OK);
    MPI_CHECK(file.tensor_count == 4);
    MPI_CHECK(file.metadata && strcmp(file.metadata, "{\"format\":\"pt\",\"epoch\":\"3\","
                                                     "\"val_loss\":\"0.25\"}") == 0);
    for (int i = 0; i < file.tensor_count; i++)
        MPI_CHECK(file.tensors[i].offset % (int64_t)lks_tensor_type_bytes(file.tensors[i].type) ==
                  0);
    const lks_tensor *weight = find_tensor(&file, "fc.weight");
    const lks_tensor *counter = find_tensor(&file, "bn.num_batches_tracked");
    const lks_tensor *none = find_tensor(&file, "none");
    MPI_CHECK(none && none->shape.rank == 2 && none->shape.dim[1] == 5 && none->count == 0);
    MPI_CHECK(counter && counter->type == LKS_TENSOR_I64 && counter->shape.rank == 0);
    MPI_CHECK(weight && weight->shape.dim[0] == ROWS && weight->shape.dim[1] == COLUMNS);
    float *values = make_values(BIG);
    int64_t count = 0;
    if (weight && counter) {
        memset(values, 0, BIG * sizeof *values);
        MPI_CHECK(pread(file.descriptor, values, BIG * sizeof *values, weight->offset) ==
                  (ssize_t)(BIG * sizeof *values));
        MPI_CHECK(pread(file.descriptor, &count, sizeof count, counter->offset) == sizeof count);
    }
    MPI_CHECK(same_values(values, BIG));
    MPI_CHECK(count == (int64_t)1 << 40);
    free(values);
    lks_safetensors_close(&file);
}

static lks_status count_array(void *data, const char *path, lks_dtype dtype,
                              const lks_shape *shape) {
    (void)path, (void)dtype, (void)shape;
    ++*(int *)data;
    return LKS_OK;
}

/* The imported checkpoint holds the model of the first one, and nothing else. */
static void check_imported(const char *path) {
    lks_checkpoint *checkpoint = NULL;
    float *values = make_values(BIG);
    memset(values, 0, BIG * sizeof *values);
    int64_t counter = 0;
    int count = 0;
    lks_piece big = {0, BIG, values}, one = {0, 1, &counter};
    lks_checkpoint_array weight = {"/model/fc.weight", LKS_F32, {2, {ROWS, COLUMNS}}, &big, 1};
    lks_checkpoint_array batches = {"/model/bn.num_batches_tracked", LKS_I64, {0, {0}}, &one, 1};
    MPI_CHECK(lks_checkpoint_verify(path, NULL) == LKS_OK);
    MPI_CHECK(lks_checkpoint_open(path, &checkpoint) == LKS_OK);
    if (checkpoint) {
        MPI_CHECK(lks_checkpoint_read(checkpoint, &weight) == LKS_OK);
        MPI_CHECK(lks_checkpoint_read(checkpoint, &batches) == LKS_OK);
        MPI_CHECK(lks_checkpoint_visit(checkpoint, count_array, &count) == LKS_OK);
    }
    MPI_CHECK(same_values(values, BIG));
    MPI_CHECK(counter == (int64_t)1 << 40);
    MPI_CHECK(count == 4);
    lks_checkpoint_close(checkpoint);
    free(values);
}

static void out_to_safetensors_and_back(void **state) {
    (void)state;
    shared_folder_open();
    lks_exchange_summary summary;
    MPI_REQUIRE(save(shared_path("a.h5")) == LKS_OK);
    if (mpi_check_rank() == 0) {
        MPI_CHECK(export_to(shared_path("a.h5"), NULL, shared_path("a.safetensors"), &summary) ==
                  LKS_OK);
        MPI_CHECK(summary.array_count == 4);
        MPI_CHECK(summary.element_count == BIG + SMALL + 1);
        MPI_CHECK(summary.bytes == 4 * (BIG + SMALL) + 8);
        check_safetensors(shared_path("a.safetensors"));
    }
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_REQUIRE(lks_weights_import(world, shared_path("a.safetensors"), "/model",
                                   shared_path("b.h5"), &summary) == LKS_OK);
    MPI_CHECK(summary.array_count == 4 && summary.element_count == BIG + SMALL + 1);
    MPI_CHECK(summary.from_float16 + summary.from_bfloat16 + summary.from_float64 == 0);
    check_imported(shared_path("b.h5"));
    MPI_CHECK(shared_folder_count("") == 3);
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

/* ---- plain HDF5 ---- */

static lks_status count_object(void *data, const char *path, bool is_group,
                               const lks_h5_info *info) {
    (void)path, (void)info;
    *(int *)data += is_group ? 100 : 1;
    return LKS_OK;
}

static void check_hdf5(const char *path) {
    lks_h5_file *file = NULL;
    lks_h5_array *array = NULL;
    char *epoch = NULL;
    int count = 0;
    int64_t counter = 0;
    MPI_CHECK(lks_h5_open(path, &file) == LKS_OK);
    if (!file) return;
    MPI_CHECK(lks_h5_visit(file, "/", count_object, &count) == LKS_OK && count == 4);
    MPI_CHECK(lks_h5_read_attr_text(file, "/", "epoch", &epoch) == LKS_OK && epoch &&
              strcmp(epoch, "3") == 0);
    free(epoch);
    float *values = make_values(BIG);
    memset(values, 0, BIG * sizeof *values);
    MPI_CHECK(lks_h5_open_array(file, "fc.weight", &array) == LKS_OK);
    MPI_CHECK(array && lks_h5_array_info(array)->shape.dim[1] == COLUMNS);
    if (array) MPI_CHECK(lks_h5_read(array, 0, BIG, LKS_F32, values) == LKS_OK);
    MPI_CHECK(same_values(values, BIG));
    free(values);
    lks_h5_close_array(array);
    MPI_CHECK(lks_h5_open_array(file, "bn.num_batches_tracked", &array) == LKS_OK);
    MPI_CHECK(array && strcmp(lks_h5_array_info(array)->type_name, "int64") == 0);
    if (array) MPI_CHECK(lks_h5_read(array, 0, 1, LKS_I64, &counter) == LKS_OK);
    MPI_CHECK(counter == (int64_t)1 << 40);
    lks_h5_close_array(array);
    lks_h5_close(file);
}

static void out_to_plain_hdf5(void **state) {
    (void)state;
    shared_folder_open();
    lks_exchange_summary summary;
    MPI_REQUIRE(save(shared_path("a.h5")) == LKS_OK);
    if (mpi_check_rank() == 0) {
        MPI_CHECK(export_to(shared_path("a.h5"), "hdf5", shared_path("w"), &summary) == LKS_OK);
        check_hdf5(shared_path("w"));
    }
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

/* ---- what goes wrong on the way out. Rank 0 alone ---- */

static bool holds_old(const char *path) {
    char text[8] = "";
    FILE *file = fopen(path, "r");
    if (!file) return false;
    size_t length = fread(text, 1, sizeof text, file);
    fclose(file);
    return length == 3 && memcmp(text, "old", 3) == 0;
}

static void put_old(const char *path) {
    FILE *file = fopen(path, "w");
    MPI_CHECK(file && fputs("old", file) >= 0 && fclose(file) == 0);
}

/* The disk has room for so many writes: whatever is missing, the old file stays alone. */
static void check_full_disk(const char *from, const char *path) {
    lks_exchange_summary summary;
    lks_status status = LKS_EIO;
    full_disk_after(1000, true);
    MPI_CHECK(export_to(from, NULL, path, &summary) == LKS_EIO);
    MPI_CHECK(strstr(lks_last_error(), "No space left") != NULL);
    for (int writes = 0; status; writes++) {
        full_disk_after(writes, false);
        status = export_to(from, NULL, path, &summary);
        MPI_CHECK(status == (full_disk_failures() ? LKS_EIO : LKS_OK));
        if (status) MPI_CHECK(strstr(lks_last_error(), "No space left") != NULL);
        MPI_CHECK(holds_old(path) == (status != LKS_OK));
        MPI_CHECK(shared_folder_count("") == 2);
        if (writes == 1000) break;
    }
    full_disk_after(-1, false);
    MPI_CHECK(status == LKS_OK);
    unlink(path);
}

static void full_disks_leave_the_old_file(void **state) {
    (void)state;
    shared_folder_open();
    MPI_REQUIRE(save(shared_path("a.h5")) == LKS_OK);
    if (mpi_check_rank() == 0) {
        const char *names[] = {"w.h5", "w.h5.safetensors"}; /* what full_disk.c takes for a disk */
        for (int i = 0; i < 2; i++) {
            put_old(shared_path(names[i]));
            check_full_disk(shared_path("a.h5"), shared_path(names[i]));
        }
    }
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

/* Turns one bit in the middle of the file, where the weights are. */
static void damage(const char *path) {
    struct stat info;
    char byte;
    int descriptor = open(path, O_RDWR);
    MPI_CHECK(descriptor >= 0 && fstat(descriptor, &info) == 0);
    MPI_CHECK(pread(descriptor, &byte, 1, info.st_size / 2) == 1);
    byte = (char)(byte ^ 4);
    MPI_CHECK(pwrite(descriptor, &byte, 1, info.st_size / 2) == 1);
    close(descriptor);
}

static void damaged_weights_do_not_go_out(void **state) {
    (void)state;
    shared_folder_open();
    MPI_REQUIRE(save(shared_path("a.h5")) == LKS_OK);
    if (mpi_check_rank() == 0) {
        const char *names[] = {"w.hdf5", "w.safetensors"};
        lks_exchange_summary summary;
        damage(shared_path("a.h5"));
        for (int i = 0; i < 2; i++) {
            put_old(shared_path(names[i]));
            MPI_CHECK(export_to(shared_path("a.h5"), NULL, shared_path(names[i]), &summary) ==
                      LKS_ECHECKPOINT);
            MPI_CHECK(strstr(lks_last_error(), "/model/fc.weight, block") != NULL);
            MPI_CHECK(holds_old(shared_path(names[i])));
        }
        MPI_CHECK(shared_folder_count("") == 3);
    }
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

static void formats(void **state) {
    (void)state;
    const lks_weights_format *format;
    MPI_CHECK(!lks_weights_format_find(NULL, "a.b/c.hdf5", &format));
    MPI_CHECK(strcmp(lks_weights_format_name(format), "hdf5") == 0);
    MPI_CHECK(!lks_weights_format_find("safetensors", "c.h5", &format));
    MPI_CHECK(strcmp(lks_weights_format_name(format), "safetensors") == 0);
    MPI_CHECK(lks_weights_format_find("safetensor", "c.h5", &format) == LKS_EINVAL);
    MPI_CHECK(strstr(lks_last_error(), "did you mean \"safetensors\"?") != NULL);
    MPI_CHECK(lks_weights_format_find(NULL, "model.pt", &format) == LKS_EINVAL);
    MPI_CHECK(strstr(lks_last_error(), "expected one of .safetensors, .h5, .hdf5") != NULL);
    MPI_CHECK(lks_weights_format_find(NULL, ".h5", &format) == LKS_EINVAL);
    mpi_verdict();
}

/* ---- in ---- */

/* Rank 0 writes a safetensors file, then all import it. Collective. */
static lks_status import_of(const char *header, const void *data, size_t bytes,
                            lks_exchange_summary *out) {
    const char *from = shared_path("in.safetensors"), *to = shared_path("out.h5");
    uint64_t length = strlen(header);
    if (mpi_check_rank() == 0) {
        FILE *file = fopen(from, "w");
        MPI_CHECK(file && fwrite(&length, 8, 1, file) == 1 && fputs(header, file) >= 0 &&
                  (bytes == 0 || fwrite(data, bytes, 1, file) == 1) && fclose(file) == 0);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    return lks_weights_import(world, from, "/model", to, out);
}

static void read_imported(const char *name, int64_t count, float *out) {
    lks_checkpoint *checkpoint = NULL;
    lks_piece piece = {0, count, out};
    lks_checkpoint_array array = {name, LKS_F32, {1, {count}}, &piece, 1};
    MPI_CHECK(lks_checkpoint_open(shared_path("out.h5"), &checkpoint) == LKS_OK);
    if (checkpoint) MPI_CHECK(lks_checkpoint_read(checkpoint, &array) == LKS_OK);
    lks_checkpoint_close(checkpoint);
}

/* Every half there is, by the definition of IEEE 754. */
static void float16_becomes_float32(void **state) {
    (void)state;
    enum { ALL = 1 << 16 };
    shared_folder_open();
    uint16_t *halves = malloc(ALL * sizeof *halves);
    float *values = calloc(ALL, sizeof *values);
    MPI_REQUIRE(halves && values);
    for (int i = 0; i < ALL; i++)
        halves[i] = (uint16_t)i;
    lks_exchange_summary summary;
    MPI_REQUIRE(
        import_of("{\"w\":{\"dtype\":\"F16\",\"shape\":[65536],\"data_offsets\":[0,131072]}}",
                  halves, ALL * sizeof *halves, &summary) == LKS_OK);
    MPI_CHECK(summary.from_float16 == 1 && summary.from_bfloat16 == 0);
    read_imported("/model/w", ALL, values);
    for (int i = 0; i < ALL; i++) {
        int exponent = i >> 10 & 31, fraction = i & 1023;
        double expected = exponent == 0   ? ldexp(fraction, -24)
                          : exponent < 31 ? ldexp(1024 + fraction, exponent - 25)
                          : fraction == 0 ? INFINITY
                                          : NAN;
        if (i & 0x8000) expected = -expected;
        MPI_CHECK(isnan(expected) ? isnan(values[i]) : values[i] == expected);
        MPI_CHECK(isnan(expected) || !signbit(values[i]) == !(i & 0x8000));
    }
    free(halves);
    free(values);
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

static void other_floats_become_float32(void **state) {
    (void)state;
    shared_folder_open();
    lks_exchange_summary summary;
    struct {
        double wide[4];
        uint16_t brain[4];
    } data = {{0.1, -0.0, 3.4028234663852886e38, INFINITY}, {0x3F80, 0xC049, 0x0001, 0x7F80}};
    const char *header = "{\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[32,40]},"
                         "\"d\":{\"dtype\":\"F64\",\"shape\":[4],\"data_offsets\":[0,32]}}";
    MPI_REQUIRE(import_of(header, &data, sizeof data, &summary) == LKS_OK);
    MPI_CHECK(summary.from_float64 == 1 && summary.from_bfloat16 == 1);
    float d[4] = {0}, b[4] = {0};
    read_imported("/model/d", 4, d);
    read_imported("/model/b", 4, b);
    MPI_CHECK(d[0] == 0.1f && d[1] == 0 && signbit(d[1]) && d[2] == 0x1.fffffep127f &&
              d[3] == INFINITY);
    MPI_CHECK(b[0] == 1.0f && b[1] == -3.140625f && b[2] == 0x1p-133f && b[3] == INFINITY);

    data.wide[2] = -1e39;
    MPI_CHECK(import_of(header, &data, sizeof data, &summary) == LKS_EDATA);
    MPI_CHECK(strstr(lks_last_error(), "tensor d") && strstr(lks_last_error(), "too large"));
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

static void tensors_without_a_place(void **state) {
    (void)state;
    shared_folder_open();
    static const struct {
        const char *name, *dtype, *message;
    } cases[] = {
        {"a/b", "F64", "tensor a/b: a parameter of a checkpoint cannot have this name"},
        {".", "F64", "cannot have this name"},
        {"emb.position_ids", "I64", "tensor emb.position_ids is int64"},
        {"bn.num_batches_tracked", "F64", "tensor bn.num_batches_tracked is not int64"},
    };
    lks_exchange_summary summary;
    double data = 1;
    char header[256];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(header, sizeof header,
                 "{\"%s\":{\"dtype\":\"%s\",\"shape\":[],\"data_offsets\":[0,8]}}", cases[i].name,
                 cases[i].dtype);
        MPI_CHECK(import_of(header, &data, sizeof data, &summary) == LKS_EDATA);
        MPI_CHECK(strstr(lks_last_error(), cases[i].message) != NULL);
        MPI_CHECK(shared_folder_count("") == 1);
    }
    MPI_CHECK(import_of("{}", NULL, 0, &summary) == LKS_EDATA);
    MPI_CHECK(strstr(lks_last_error(), "holds no tensors") != NULL);
    MPI_CHECK(lks_weights_import(world, shared_path("missing"), "/model", shared_path("out.h5"),
                                 &summary) == LKS_EIO);
    MPI_CHECK(shared_folder_count("") == 1);
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

/* Far longer than any program's names, and a shape without elements that is as large as can be. */
static void strange_but_sound(void **state) {
    (void)state;
    enum { LENGTH = 60000 };
    shared_folder_open();
    char *header = malloc(LENGTH + 256);
    MPI_REQUIRE(header != NULL);
    size_t length =
        (size_t)sprintf(header, "{\"e\":{\"dtype\":\"F32\",\"shape\":[0,1152921504606846976],"
                                "\"data_offsets\":[0,0]},\"");
    memset(header + length, 'n', LENGTH);
    strcpy(header + length + LENGTH,
           "\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}");
    lks_exchange_summary summary;
    float one = 1;
    lks_status status = import_of(header, &one, sizeof one, &summary);
    MPI_CHECK(status == LKS_OK || status == LKS_EIO);
    if (!status) MPI_CHECK(lks_checkpoint_verify(shared_path("out.h5"), NULL) == LKS_OK);
    free(header);
    shared_folder_close(NULL, 0);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(out_to_safetensors_and_back),
        cmocka_unit_test(out_to_plain_hdf5),
        cmocka_unit_test(full_disks_leave_the_old_file),
        cmocka_unit_test(damaged_weights_do_not_go_out),
        cmocka_unit_test(formats),
        cmocka_unit_test(float16_becomes_float32),
        cmocka_unit_test(other_floats_become_float32),
        cmocka_unit_test(tensors_without_a_place),
        cmocka_unit_test(strange_but_sound),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
