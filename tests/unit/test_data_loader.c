/* The loader: the batches of every rank count, restarts, errors of the thread, hand-over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>
#include <semaphore.h>
#include <stdlib.h>

#include "data/dataset.h"
#include "data/transform.h"
#include "h5/h5.h"
#include "unit/status_check.h"
#include "unit/temp_folder.h"

enum { COUNT = 23, WIDTH = 2 };

static lks_device *device;

static int setup(void **state) {
    lks_device_config config = LKS_DEVICE_CONFIG_DEFAULT;
    config.kind = "cpu";
    config.threads = 1;
    return temp_folder_setup(state) != 0 || lks_device_create(&config, &device) != LKS_OK;
}

static int teardown(void **state) {
    lks_device_destroy(device);
    return temp_folder_teardown(state);
}

/* Sample i is (i, -i) with the label 100 + i. */
static lks_dataset *numbered(void) {
    static float inputs[COUNT * WIDTH];
    static int64_t labels[COUNT];
    lks_dataset *dataset = NULL;
    for (int i = 0; i < COUNT; i++) {
        inputs[i * WIDTH] = (float)i;
        inputs[i * WIDTH + 1] = (float)-i;
        labels[i] = 100 + i;
    }
    assert_ok(lks_dataset_from_arrays(COUNT, &(lks_shape){1, {WIDTH}}, inputs, labels, NULL, NULL,
                                      &dataset));
    return dataset;
}

/* Options text over the defaults; freed by free_settings. */
static lks_data_settings settings_of(const char *options) {
    lks_data_settings settings;
    memset(&settings, 0, sizeof settings);
    assert_ok(lks_options_parse(&lks_data_settings_options, &settings, options, "data"));
    return settings;
}

static void free_settings(lks_data_settings *settings) {
    lks_options_free(&lks_data_settings_options, settings);
}

static lks_loader_config config_of(const lks_data_settings *settings, int64_t batch_size) {
    return (lks_loader_config){.seed = 5,
                               .batch_size = batch_size,
                               .size = 1,
                               .training = true,
                               .settings = settings,
                               .layout = LKS_LAYOUT_ROWS};
}

static lks_loader *created(lks_dataset *dataset, const lks_loader_config *config) {
    lks_loader *loader = NULL;
    assert_ok(lks_loader_create(dataset, device, config, &loader));
    return loader;
}

/* Takes batch `step` and compares it with the documented part of the documented order. */
static void check_batch(lks_loader *loader, const lks_loader_config *config, int64_t step,
                        const int64_t *order) {
    lks_host_batch batch;
    int64_t begin = 0, end = 0, first = 0, last = 0;
    lks_sampler_batch(COUNT, config->batch_size, step, &begin, &end);
    lks_split(end - begin, config->rank, config->size, &first, &last);
    assert_ok(lks_loader_next(loader, &batch));
    assert_int_equal(batch.step, step);
    assert_int_equal(batch.rows, last - first);
    assert_int_equal(batch.first_row, first);
    assert_int_equal(batch.global_rows, end - begin);
    assert_true(batch.rows <= lks_loader_max_rows(loader));
    for (int64_t i = 0; i < batch.rows; i++) {
        int64_t sample = order[begin + first + i];
        assert_true(batch.inputs[i * WIDTH] == (float)sample);
        assert_true(batch.inputs[i * WIDTH + 1] == (float)-sample);
        assert_int_equal(((const int32_t *)batch.targets)[i], 100 + sample);
    }
    lks_loader_release(loader, &batch);
}

static void every_rank_gets_its_part(void **state) {
    (void)state;
    lks_dataset *dataset = numbered();
    lks_data_settings settings = settings_of("");
    const int64_t batch_sizes[] = {1, 2, 5, 23, 100};
    for (int size = 1; size <= 4; size++)
        for (int rank = 0; rank < size; rank++)
            for (int b = 0; b < 5; b++) {
                lks_loader_config config = config_of(&settings, batch_sizes[b]);
                config.rank = rank;
                config.size = size;
                lks_loader *loader = created(dataset, &config);
                assert_int_equal(lks_loader_steps(loader),
                                 (COUNT + batch_sizes[b] - 1) / batch_sizes[b]);
                for (int64_t epoch = 1; epoch <= 3; epoch++) {
                    int64_t order[COUNT];
                    lks_sampler_permutation(5, epoch, COUNT, order);
                    assert_ok(lks_loader_begin(loader, epoch, 0));
                    for (int64_t step = 0; step < lks_loader_steps(loader); step++)
                        check_batch(loader, &config, step, order);
                    lks_host_batch batch;
                    assert_int_equal(lks_loader_next(loader, &batch), LKS_EINVAL);
                }
                assert_true(lks_loader_wait_seconds(loader) >= 0);
                assert_true(lks_loader_thread_seconds(loader) > 0);
                assert_int_equal(lks_loader_begin(loader, 0, 0), LKS_OK);
                assert_true(lks_loader_wait_seconds(loader) == 0);
                lks_loader_destroy(loader);
            }
    free_settings(&settings);
    lks_dataset_destroy(dataset);
}

static void validation_and_drop_last(void **state) {
    (void)state;
    lks_dataset *dataset = numbered();
    lks_data_settings settings = settings_of("drop_last=true prefetch=0");
    int64_t order[COUNT];
    for (int64_t i = 0; i < COUNT; i++)
        order[i] = i;

    lks_loader_config config = config_of(&settings, 10);
    lks_loader *loader = created(dataset, &config);
    assert_int_equal(lks_loader_steps(loader), 2);
    lks_loader_destroy(loader);

    config.training = false; /* neither shuffled nor cut */
    loader = created(dataset, &config);
    assert_int_equal(lks_loader_steps(loader), 3);
    assert_ok(lks_loader_begin(loader, 7, 0));
    for (int64_t step = 0; step < 3; step++)
        check_batch(loader, &config, step, order);
    lks_loader_destroy(loader);
    free_settings(&settings);
    lks_dataset_destroy(dataset);
}

static void an_epoch_can_begin_anywhere(void **state) {
    (void)state;
    lks_dataset *dataset = numbered();
    lks_data_settings settings = settings_of("");
    lks_loader_config config = config_of(&settings, 2);
    lks_loader *loader = created(dataset, &config);
    lks_host_batch batch;
    assert_int_equal(lks_loader_next(loader, &batch), LKS_EINVAL); /* nothing begun */
    for (int64_t epoch = 1; epoch < 40; epoch++) {
        /* leaves the epoch before in the middle, with batches read ahead and one not given back */
        int64_t order[COUNT], first = epoch * 5 % 13;
        lks_sampler_permutation(5, epoch, COUNT, order);
        assert_ok(lks_loader_begin(loader, epoch, first));
        for (int64_t step = first; step < 12 && step < first + epoch % 4; step++)
            check_batch(loader, &config, step, order);
        if (epoch == 20) assert_ok(lks_loader_next(loader, &batch));
    }
    assert_int_equal(lks_loader_begin(loader, 1, 13), LKS_EINVAL);
    assert_int_equal(lks_loader_begin(loader, 1, -1), LKS_EINVAL);
    assert_int_equal(lks_loader_begin(loader, -1, 0), LKS_EINVAL);
    assert_ok(lks_loader_begin(loader, 1, 12)); /* an epoch that is over */
    assert_int_equal(lks_loader_next(loader, &batch), LKS_EINVAL);
    lks_loader_destroy(loader);
    free_settings(&settings);
    lks_dataset_destroy(dataset);
}

/* With one slot free, fewer than the half at which the sleeping thread is woken, the next batch
 * still comes. */
static void batches_may_be_kept(void **state) {
    (void)state;
    lks_dataset *dataset = numbered();
    lks_data_settings settings = settings_of("prefetch=4");
    lks_loader_config config = config_of(&settings, 1);
    lks_loader *loader = created(dataset, &config);
    lks_host_batch kept[15], next;
    assert_ok(lks_loader_begin(loader, 1, 0));
    for (int i = 0; i < 15; i++)
        assert_ok(lks_loader_next(loader, &kept[i]));
    for (int i = 15; i < COUNT; i++) {
        assert_ok(lks_loader_next(loader, &next));
        assert_int_equal(next.step, i);
        lks_loader_release(loader, &next);
    }
    for (int i = 0; i < 15; i++) {
        assert_int_equal(((const int32_t *)kept[i].targets)[0], 100 + (int)kept[i].inputs[0]);
        lks_loader_release(loader, &kept[i]);
    }
    lks_loader_destroy(loader);
    free_settings(&settings);
    lks_dataset_destroy(dataset);
}

static void ending_while_the_thread_works(void **state) {
    (void)state;
    lks_dataset *dataset = numbered();
    lks_data_settings settings = settings_of("");
    lks_loader_config config = config_of(&settings, 3);
    for (int i = 0; i < 200; i++) {
        lks_loader *loader = created(dataset, &config);
        lks_host_batch batch;
        if (i % 4 != 0) assert_ok(lks_loader_begin(loader, i, i % 8));
        if (i % 4 == 2) assert_ok(lks_loader_next(loader, &batch));
        lks_loader_destroy(loader);
    }
    lks_loader_destroy(NULL);
    free_settings(&settings);
    lks_dataset_destroy(dataset);
}

static void settings_that_do_not_fit(void **state) {
    (void)state;
    lks_dataset *dataset = numbered();
    lks_loader *loader = NULL;
    const struct {
        const char *options, *says;
    } cases[] = {
        {"mean=[1,2,3]", "mean has 3 numbers: expected 1, or 2"},
        {"std=[1,2,3]", "std has 3 numbers"},
        {"random_crop=1", "random_crop needs images [channels, height, width], the inputs are [2]"},
        {"horizontal_flip=true", "horizontal_flip needs images"},
        {"drop_last=true", "23 samples, fewer than batch_size (24)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        lks_data_settings settings = settings_of(cases[i].options);
        lks_loader_config config = config_of(&settings, 24);
        assert_int_equal(lks_loader_create(dataset, device, &config, &loader), LKS_ECONFIG);
        assert_error_has(cases[i].says);
        assert_null(loader);
        free_settings(&settings);
    }
    lks_data_settings settings = settings_of("");
    lks_loader_config config = config_of(&settings, 0);
    assert_int_equal(lks_loader_create(dataset, device, &config, &loader), LKS_EINVAL);
    config.batch_size = 1;
    config.rank = 1;
    assert_int_equal(lks_loader_create(dataset, device, &config, &loader), LKS_EINVAL);
    free_settings(&settings);

    const char *refused[] = {"std=0",     "std=[1,-1]", "prefetch=-1",   "memory=0",
                             "scale=nan", "mean=inf",   "random_crop=-1"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        memset(&settings, 0, sizeof settings);
        assert_int_equal(
            lks_options_parse(&lks_data_settings_options, &settings, refused[i], "data"),
            LKS_ECONFIG);
    }
    lks_dataset_destroy(dataset);
}

/* ---- augmentation ---- */

/* Crops and flips depend on (seed, epoch, sample) alone: whatever the rank, the batch and the place
 * in it, a sample is what the documented words make of it. */
static void augmentation_does_not_depend_on_ranks(void **state) {
    (void)state;
    enum { IMAGES = 20, PIXELS = 2 * 3 * 4 };
    static float inputs[IMAGES * PIXELS];
    const lks_shape shape = {3, {2, 3, 4}};
    lks_dataset *dataset = NULL;
    for (int i = 0; i < IMAGES * PIXELS; i++)
        inputs[i] = (float)i;
    assert_ok(lks_dataset_from_arrays(IMAGES, &shape, inputs, NULL, NULL, NULL, &dataset));
    lks_data_settings settings = settings_of("random_crop=1 horizontal_flip=true");
    lks_transform transform;
    assert_ok(lks_transform_create(&shape, LKS_F32, &settings, true, LKS_LAYOUT_CHANNELS_LAST,
                                   &transform));
    const int64_t epochs[] = {1, 2, ((int64_t)1 << 32) + 1};
    for (int size = 1; size <= 3; size++)
        for (int e = 0; e < 3; e++) {
            lks_philox_key key = lks_philox_key_make(5, LKS_RANDOM_AUGMENT, (uint32_t)epochs[e]);
            int64_t order[IMAGES];
            lks_sampler_permutation(5, epochs[e], IMAGES, order);
            lks_loader_config config = config_of(&settings, 7);
            config.layout = LKS_LAYOUT_CHANNELS_LAST;
            config.size = size;
            config.rank = size - 1;
            lks_loader *loader = created(dataset, &config);
            assert_ok(lks_loader_begin(loader, epochs[e], 0));
            for (int64_t step = 0; step < lks_loader_steps(loader); step++) {
                lks_host_batch batch;
                assert_ok(lks_loader_next(loader, &batch));
                assert_null(batch.targets);
                for (int64_t r = 0; r < batch.rows; r++) {
                    float expected[PIXELS];
                    int64_t sample = order[step * 7 + batch.first_row + r];
                    lks_philox_block random =
                        lks_philox(key, (uint64_t)sample, (uint64_t)epochs[e] >> 32);
                    lks_transform_apply(&transform, inputs + sample * PIXELS, random, expected);
                    assert_memory_equal(batch.inputs + r * PIXELS, expected, sizeof expected);
                }
                lks_loader_release(loader, &batch);
            }
            lks_loader_destroy(loader);
        }
    lks_transform_free(&transform);
    free_settings(&settings);
    lks_dataset_destroy(dataset);
}

/* ---- a source that the test holds back ---- */

typedef struct gate {
    sem_t entered, open;
    bool held;
} gate;

static lks_status read_behind_gate(void *source, int64_t first, int64_t count, lks_dtype dtype,
                                   void *rows) {
    gate *g = source;
    (void)dtype;
    if (g->held) {
        sem_post(&g->entered);
        sem_wait(&g->open);
    }
    for (int64_t i = 0; i < count; i++)
        ((float *)rows)[i] = (float)(first + i);
    return LKS_OK;
}

static void leave_gate(void *source) {
    (void)source;
}

/* The epoch begins anew while a batch of the one before, with the same step, is being filled: that
 * batch is never handed out. */
static void a_batch_of_the_epoch_before_is_dropped(void **state) {
    (void)state;
    static const lks_source_ops ops = {.read = read_behind_gate, .close = leave_gate};
    gate g = {.held = true};
    sem_init(&g.entered, 0, 0);
    sem_init(&g.open, 0, 0);
    lks_dataset *dataset = calloc(1, sizeof *dataset);
    dataset->inputs = (lks_column){.file = lks_strdup("gate"),
                                   .name = lks_strdup("x"),
                                   .count = 64,
                                   .shape = {1, {1}},
                                   .width = 1,
                                   .dtype = LKS_F32,
                                   .ops = &ops,
                                   .source = &g};
    assert_ok(lks_column_open_blocks(&dataset->inputs, 1));
    lks_data_settings settings = settings_of("");
    lks_loader_config config = config_of(&settings, 4);
    lks_loader *loader = created(dataset, &config);
    assert_ok(lks_loader_begin(loader, 1, 0));
    sem_wait(&g.entered); /* step 0 of epoch 1 is under way */
    assert_ok(lks_loader_begin(loader, 2, 0));
    g.held = false;
    sem_post(&g.open);
    int64_t order[64];
    lks_sampler_permutation(5, 2, 64, order);
    for (int64_t step = 0; step < 16; step++) {
        lks_host_batch batch;
        assert_ok(lks_loader_next(loader, &batch));
        for (int64_t r = 0; r < 4; r++)
            assert_true(batch.inputs[r] == (float)order[4 * step + r]);
        lks_loader_release(loader, &batch);
    }
    lks_loader_destroy(loader);
    free_settings(&settings);
    lks_dataset_destroy(dataset);
    sem_destroy(&g.open);
    sem_destroy(&g.entered);
}

/* ---- a data set in blocks ---- */

/* 64 rows of 2 numbers, row `bad` with a NaN (-1: none), opened with memory for a few rows. */
static lks_dataset *in_blocks(int bad) {
    double values[64][2];
    for (int i = 0; i < 64; i++)
        values[i][0] = values[i][1] = i == bad ? NAN : i;
    lks_h5_file *file = NULL;
    lks_h5_array *array = NULL;
    char options[400];
    snprintf(options, sizeof options, "file=%s inputs=x targets=x", temp_path("blocks.h5"));
    assert_ok(lks_h5_create(temp_path("blocks.h5"), &file));
    assert_ok(lks_h5_create_array(file, "x", LKS_F64, &(lks_shape){2, {64, 2}}, &array));
    assert_ok(lks_h5_write(array, 0, 128, LKS_F64, values));
    lks_h5_close_array(array);
    assert_ok(lks_h5_close(file));
    lks_dataset *dataset = NULL;
    assert_ok(lks_dataset_open(&(lks_spec){.type = "hdf5", .options = options}, 40, &dataset));
    return dataset;
}

static void errors_of_the_thread_come_to_the_caller(void **state) {
    (void)state;
    lks_dataset *dataset = in_blocks(50);
    lks_data_settings settings = settings_of("shuffle=false prefetch=1");
    lks_loader_config config = config_of(&settings, 8);
    lks_loader *loader = created(dataset, &config);
    lks_host_batch batch;
    for (int round = 0; round < 2; round++) {
        assert_ok(lks_loader_begin(loader, round, 2));
        lks_status status = LKS_OK;
        int64_t taken = 0;
        while ((status = lks_loader_next(loader, &batch)) == LKS_OK) {
            assert_true(batch.inputs[0] == (float)(8 * batch.step));
            lks_loader_release(loader, &batch);
            taken++;
        }
        assert_int_equal(status, LKS_EDATA);
        assert_int_equal(taken, 4); /* steps 2..5; row 50 is in step 6 */
        assert_error_has("blocks.h5: x[50, 0] is nan");
        assert_int_equal(lks_loader_next(loader, &batch), LKS_EDATA); /* and stays */
        assert_ok(lks_loader_begin(loader, round, 7));                /* behind it all is well */
        assert_ok(lks_loader_next(loader, &batch));
        lks_loader_release(loader, &batch);
    }
    lks_loader_destroy(loader);
    free_settings(&settings);
    lks_dataset_destroy(dataset);
}

/* A training and a validation loader may share one data set that is read in blocks. */
static void two_loaders_on_one_data_set(void **state) {
    (void)state;
    lks_dataset *dataset = in_blocks(-1);
    lks_data_settings settings = settings_of("");
    lks_loader_config config = config_of(&settings, 4);
    lks_loader *loaders[2];
    for (int i = 0; i < 2; i++)
        loaders[i] = created(dataset, &config);
    for (int64_t epoch = 0; epoch < 20; epoch++) {
        int64_t order[64];
        for (int i = 0; i < 2; i++)
            assert_ok(lks_loader_begin(loaders[i], epoch + i, 0));
        for (int64_t step = 0; step < 16; step++)
            for (int i = 0; i < 2; i++) {
                lks_host_batch batch;
                lks_sampler_permutation(5, epoch + i, 64, order);
                assert_ok(lks_loader_next(loaders[i], &batch));
                for (int64_t r = 0; r < 4; r++) {
                    float expected = (float)order[step * 4 + r];
                    assert_true(batch.inputs[2 * r + 1] == expected);
                    assert_true(((const float *)batch.targets)[2 * r] == expected);
                }
                lks_loader_release(loaders[i], &batch);
            }
    }
    for (int i = 0; i < 2; i++)
        lks_loader_destroy(loaders[i]);
    free_settings(&settings);
    lks_dataset_destroy(dataset);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rank_gets_its_part),
        cmocka_unit_test(validation_and_drop_last),
        cmocka_unit_test(an_epoch_can_begin_anywhere),
        cmocka_unit_test(batches_may_be_kept),
        cmocka_unit_test(ending_while_the_thread_works),
        cmocka_unit_test(settings_that_do_not_fit),
        cmocka_unit_test(augmentation_does_not_depend_on_ranks),
        cmocka_unit_test(a_batch_of_the_epoch_before_is_dropped),
        cmocka_unit_test(errors_of_the_thread_come_to_the_caller),
        cmocka_unit_test(two_loaders_on_one_data_set),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
