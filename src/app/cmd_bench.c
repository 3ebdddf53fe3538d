#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "app/comm_bench.h"
#include "app/commands.h"
#include "app/job.h"
#include "app/output.h"
#include "train/train.h"

static double rate_of(const lks_comm_sample *sample) {
    return sample->seconds > 0 ? (double)sample->bytes / sample->seconds : 0;
}

/* Was it measured how much of a call computing beside it has to do? */
static bool has_busy(const lks_comm_sample *samples, int count) {
    for (int i = 0; i < count; i++)
        if (samples[i].busy > 0) return true;
    return false;
}

static void print_table(const lks_comm *comm, const lks_device *device,
                        const lks_comm_sample *samples, int count) {
    const int size = lks_comm_size(comm), hosts = lks_comm_host_count(comm);
    printf("%d ranks on %d host%s, %s, each: %s\n\n%-16s %12s %12s %12s %12s%s\n", size, hosts,
           lks_plural(hosts), lks_comm_device_path(comm), lks_device_description(device),
           "collective", "bytes", "time us", "algbw GB/s", "busbw GB/s",
           has_busy(samples, count) ? "      busy us" : "");
    for (int i = 0; i < count; i++) {
        printf("%-16s %12" PRId64 " %12.2f %12.3f %12.3f", lks_collective_name(samples[i].kind),
               samples[i].bytes, 1e6 * samples[i].seconds, 1e-9 * rate_of(&samples[i]),
               1e-9 * rate_of(&samples[i]) * lks_collective_bus_factor(samples[i].kind, size));
        if (has_busy(samples, count)) printf(" %12.2f", 1e6 * samples[i].busy);
        puts("");
    }
    puts("\nEvery result was checked.");
}

/* As in profile.json (train/profile_print.c), new members need no new number of the format. */
static void print_json(const lks_comm *comm, const lks_device *device,
                       const lks_comm_sample *samples, int count, lks_strbuf *out) {
    lks_strbuf_add(out, "{\"format\": \"lockstep bench comm 1\", \"backend\": ");
    lks_strbuf_add_json(out, lks_comm_device_path(comm));
    lks_strbuf_add(out, ", \"device\": ");
    lks_strbuf_add_json(out, lks_device_description(device));
    lks_strbuf_add(out, ", \"ranks\": %d, \"hosts\": %d,\n \"samples\": [", lks_comm_size(comm),
                   lks_comm_host_count(comm));
    for (int i = 0; i < count; i++) {
        const double rate = rate_of(&samples[i]);
        lks_strbuf_add(out, "%s\n  {\"collective\": \"%s\", \"bytes\": %" PRId64, i ? "," : "",
                       lks_collective_name(samples[i].kind), samples[i].bytes);
        lks_strbuf_add_number_member(out, "seconds", samples[i].seconds);
        lks_strbuf_add_number_member(out, "algbw", rate);
        lks_strbuf_add_number_member(
            out, "busbw", rate * lks_collective_bus_factor(samples[i].kind, lks_comm_size(comm)));
        lks_strbuf_add_number_member(out, "busy", samples[i].busy);
        lks_strbuf_add(out, "}");
    }
    lks_strbuf_add(out, "\n]}\n");
}

static lks_status print(const lks_args *args, const lks_comm *comm, const lks_device *device,
                        const lks_comm_sample *samples, int count) {
    if (!args->json) {
        print_table(comm, device, samples, count);
        return LKS_OK;
    }
    lks_strbuf text = {0};
    print_json(comm, device, samples, count, &text);
    return lks_output_text(LKS_OK, &text);
}

static lks_status bench(const lks_args *args, lks_context *context) {
    lks_comm *comm = lks_context_comm(context);
    lks_device *device = lks_context_device(context);
    const int count = lks_comm_bench_count(args->max_bytes);
    lks_comm_sample *samples = calloc((size_t)count, sizeof *samples);
    lks_status status =
        lks_comm_agree(comm, samples ? LKS_OK : lks_fail(LKS_ENOMEM, "out of memory"));
    if (!status) lks_comm_bench_list(args->max_bytes, samples);
    if (!status) status = lks_comm_measure(comm, device, true, samples, count);
    if (!status && lks_comm_rank(comm) == 0) status = print(args, comm, device, samples, count);
    free(samples);
    return status;
}

lks_status lks_command_bench(const lks_args *args) {
    const lks_context_config config = {.device = args->device, .threads = 0, .verbosity = 0};
    lks_context *context = NULL;
    if (strcmp(args->operands[0], "comm") != 0)
        return lks_fail(LKS_EUSAGE, "bench %s: expected comm", args->operands[0]);
    lks_status status = lks_context_create(MPI_COMM_WORLD, &config, &context);
    if (status) return status;
    status = lks_context_size(context) > 1
                 ? bench(args, context)
                 : lks_fail(LKS_EUSAGE, "bench comm: one rank has nobody to talk to: start it with "
                                        "mpirun -np 2, or as many as you have");
    if (lks_strands_others(status))
        lks_job_leave_the_word(context);
    else
        lks_context_destroy(context);
    return status;
}
