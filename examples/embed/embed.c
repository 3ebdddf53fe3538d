/* A simulation that trains a surrogate of its own expensive function while it runs.
 *
 * It owns MPI_COMM_WORLD. All its ranks tabulate the function; the first half of them (at least
 * one) trains a small network on the table over a communicator of their own, predicts at new
 * points, and tells all ranks how good the surrogate is.
 *
 *     mpirun -np 4 embed
 */
#include <lockstep/lockstep.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { POINTS_PER_SIDE = 48, POINTS = POINTS_PER_SIDE * POINTS_PER_SIDE, TRIALS = 5 };

static float response(float x, float y) {
    return sinf(3.0f * x) * expf(-y * y) + 0.5f * x * y;
}

/* Every rank computes some rows of the table on [-1, 1] x [-1, 1]; together they have all of it. */
static void tabulate(float *inputs, float *values) {
    int rank, size;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (int i = 0; i < POINTS; i++) {
        float x = 2.0f * (float)(i % POINTS_PER_SIDE) / (POINTS_PER_SIDE - 1) - 1.0f;
        float y = 2.0f * (float)(i / POINTS_PER_SIDE) / (POINTS_PER_SIDE - 1) - 1.0f;
        inputs[2 * i] = x;
        inputs[2 * i + 1] = y;
        values[i] = i % size == rank ? response(x, y) : 0.0f;
    }
    MPI_Allreduce(MPI_IN_PLACE, values, POINTS, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

/* The largest error of the trained network at points that it has not seen. */
static lks_status try_surrogate(lks_trainer *trainer, float *out_error) {
    static const float at[TRIALS][2] = {
        {0.11f, 0.53f}, {-0.72f, 0.31f}, {0.90f, -0.44f}, {-0.05f, -0.88f}, {0.47f, 0.02f}};
    float predicted[TRIALS];
    lks_status status = lks_predict(trainer, TRIALS, &at[0][0], predicted);
    *out_error = 0;
    for (int i = 0; i < TRIALS && status == LKS_OK; i++)
        *out_error = fmaxf(*out_error, fabsf(predicted[i] - response(at[i][0], at[i][1])));
    return status;
}

static lks_action print_epoch(void *data, const lks_epoch_result *result) {
    if (*(const int *)data == 0 && result->epoch % 10 == 0)
        printf("epoch %lld: mean squared error %.6f\n", (long long)result->epoch,
               result->train_loss);
    return result->train_loss < 1e-5 ? LKS_STOP : LKS_CONTINUE;
}

/* Collective over `comm`. */
static lks_status train(MPI_Comm comm, const float *inputs, const float *values, float *out_error) {
    static const lks_layer_spec layers[] = {
        {.type = "linear", .options = "out_features=64"}, {.type = "gelu"},
        {.type = "linear", .options = "out_features=64"}, {.type = "gelu"},
        {.type = "linear", .options = "out_features=1"},  {0},
    };
    const lks_shape point = {.rank = 1, .dim = {2}}, value = {.rank = 1, .dim = {1}};
    int rank;
    MPI_Comm_rank(comm, &rank);
    lks_train_config config = LKS_TRAIN_CONFIG_DEFAULT;
    config.epochs = 50;
    config.loss = (lks_spec){.type = "mse"};
    config.optimizer = (lks_spec){.type = "adamw", .options = "lr=3e-3 weight_decay=0"};
    config.schedule = (lks_spec){.type = "step", .options = "step_size=15 gamma=0.3"};
    config.callbacks = (lks_callbacks){.on_epoch = print_epoch, .data = &rank};

    lks_context *context = NULL;
    lks_dataset *table = NULL;
    lks_trainer *trainer = NULL;
    lks_status status = lks_context_create(comm, &(lks_context_config){.device = "auto"}, &context);
    if (status == LKS_OK)
        status = lks_dataset_from_arrays(POINTS, &point, inputs, NULL, &value, values, &table);
    if (status == LKS_OK)
        status = lks_trainer_create(context, layers, &point, table, NULL, &config, &trainer);
    if (status == LKS_OK) status = lks_fit(trainer);
    if (status == LKS_OK) status = try_surrogate(trainer, out_error);
    lks_trainer_destroy(trainer);
    lks_dataset_destroy(table);
    lks_context_destroy(context);
    return status;
}

int main(int argc, char **argv) {
    static float inputs[2 * POINTS], values[POINTS];
    int rank, size;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    tabulate(inputs, values);

    MPI_Comm trainers;
    int trains = rank < (size + 1) / 2;
    MPI_Comm_split(MPI_COMM_WORLD, trains ? 0 : MPI_UNDEFINED, rank, &trainers);
    lks_status status = LKS_OK;
    float error = 0;
    if (trains) {
        status = train(trainers, inputs, values, &error);
        if (status != LKS_OK)
            fprintf(stderr, "rank %d: %s: %s\n", rank, lks_status_text(status), lks_last_error());
        MPI_Comm_free(&trainers);
    }
    MPI_Bcast(&error, 1, MPI_FLOAT, 0, MPI_COMM_WORLD);
    if (rank == size - 1 && status == LKS_OK)
        printf("rank %d: the surrogate's largest error at %d new points is %.4f\n", rank, TRIALS,
               error);
    MPI_Finalize();
    return lks_status_exit_code(status);
}
