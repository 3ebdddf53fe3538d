#include <inttypes.h>
#include <math.h>

#include "train/train.h"

static void print_metrics(const char *name, double loss, double acc, lks_strbuf *out) {
    lks_strbuf_add(out, "%s Loss: %.4f", name, loss);
    if (!isnan(acc)) lks_strbuf_add(out, ", %s Acc: %.2f%%", name, 100 * acc);
}

void lks_epoch_print(const lks_epoch_result *result, int64_t epochs, lks_strbuf *out) {
    lks_strbuf_add(out, "Epoch %" PRId64 "/%" PRId64 ": ", result->epoch, epochs);
    print_metrics("Train", result->train_loss, result->train_acc, out);
    if (!isnan(result->val_loss) || !isnan(result->val_acc)) {
        lks_strbuf_add(out, " | ");
        print_metrics("Val", result->val_loss, result->val_acc, out);
    }
}
