/* Training curves on the digits against PyTorch's: the same initial weights, the same order of
 * samples, 20 epochs through the public interface, on one rank and on several. */
#include <lockstep/lockstep.h>
#include <math.h>

#include "mpi/mpi_check.h"
#include "parity/golden.h"
#include "parity/graph_text.h"

/* Two float32 runs drift apart by rounding alone. How much, a case says in its attribute
 * `rounding`: the distance of PyTorch's float32 from its own float64. Other kernels round
 * otherwise, hence ten times that, and never more than 1e-3. */
static double tolerance(double rounding) {
    return fmin(1e-3, 1e-5 + 10 * rounding);
}

typedef struct curve_case {
    char *layers_text, *optimizer_text, *schedule_text;
    graph_text layers;
    lks_train_config config;
    float *train_loss, *val_loss;
    int64_t epochs;
    double tolerance;
    lks_context *context;
    lks_dataset *train, *validation;
    lks_trainer *trainer;
} curve_case;

/* "type options" */
static lks_spec split_spec(char *text) {
    char *blank = strchr(text, ' ');
    if (blank != NULL) *blank = '\0';
    return (lks_spec){.type = text, .options = blank != NULL ? blank + 1 : NULL};
}

static void read_case(const char *name, curve_case *c) {
    lks_h5_file *file = golden_open("digits_curve.h5");
    lks_shape shape;
    memset(c, 0, sizeof *c);
    c->layers_text = golden_text(file, name, "layers");
    c->optimizer_text = golden_text(file, name, "optimizer");
    c->schedule_text = golden_text(file, name, "schedule");
    graph_text_parse(c->layers_text, &c->layers);
    c->train_loss = golden_floats(file, golden_path(name, "train_loss"), &shape);
    c->val_loss = golden_floats(file, golden_path(name, "val_loss"), NULL);
    c->epochs = shape.dim[0];
    c->tolerance = tolerance(golden_number(file, name, "rounding"));
    c->config = (lks_train_config)LKS_TRAIN_CONFIG_DEFAULT;
    c->config.seed = (uint64_t)golden_int(file, name, "seed");
    c->config.batch_size = golden_int(file, name, "batch_size");
    c->config.epochs = c->epochs;
    c->config.optimizer = split_spec(c->optimizer_text);
    c->config.schedule = split_spec(c->schedule_text);
    c->config.data = "scale=0.0625";
    lks_h5_close(file);
}

static lks_status open_part(const char *part, lks_dataset **out) {
    char options[768];
    snprintf(options, sizeof options,
             "file=\"%s/examples/digits/digits.h5\" inputs=%s/inputs targets=%s/targets",
             LKS_SOURCE_DIR, part, part);
    const lks_spec spec = {.type = "hdf5", .options = options};
    return lks_dataset_open(&spec, 64 << 20, out);
}

static lks_status open_run(curve_case *c) {
    const lks_context_config config = {.device = "cpu", .threads = 1, .verbosity = 0};
    const lks_shape input = {3, {1, 8, 8}};
    lks_status status = lks_context_create(MPI_COMM_WORLD, &config, &c->context);
    if (status == LKS_OK) status = open_part("train", &c->train);
    if (status == LKS_OK) status = open_part("validation", &c->validation);
    if (status == LKS_OK)
        status = lks_trainer_create(c->context, c->layers.lists[0], &input, c->train, c->validation,
                                    &c->config, &c->trainer);
    return status;
}

static void close_run(curve_case *c) {
    lks_trainer_destroy(c->trainer);
    lks_dataset_destroy(c->train);
    lks_dataset_destroy(c->validation);
    lks_context_destroy(c->context);
    free(c->layers_text);
    free(c->optimizer_text);
    free(c->schedule_text);
    free(c->train_loss);
    free(c->val_loss);
}

static void follows_pytorchs_curve(void **state) {
    const char *name = *state;
    curve_case c;
    read_case(name, &c);
    lks_status status = open_run(&c);
    double worst = 0;
    for (int64_t epoch = 0; status == LKS_OK && epoch < c.epochs; epoch++) {
        lks_epoch_result result;
        status = lks_epoch(c.trainer, &result);
        /* Nothing has drifted in the first epoch. */
        double bound = epoch == 0 ? 1e-5 : c.tolerance;
        double off = fmax(fabs(result.train_loss - (double)c.train_loss[epoch]),
                          fabs(result.val_loss - (double)c.val_loss[epoch]));
        MPI_CHECK(off <= bound);
        worst = fmax(worst, off);
    }
    MPI_CHECK(status == LKS_OK);
    if (mpi_check_rank() == 0)
        print_message("%s: off by at most %.2g, allowed %.2g\n", name, worst, c.tolerance);
    close_run(&c);
    mpi_verdict();
}

int main(int argc, char **argv) {
    static char names[][16] = {"relu_sgd", "relu_adamw", "silu_sgd", "silu_adamw"};
    enum { COUNT = sizeof names / sizeof names[0] };
    struct CMUnitTest tests[COUNT];
    for (int i = 0; i < COUNT; i++)
        tests[i] = (struct CMUnitTest){
            .name = names[i], .test_func = follows_pytorchs_curve, .initial_state = names[i]};
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
