#include "device/device.h"

/* Ranks bound to overlapping cores divide each shared core fairly: the rank's share is the sum over
 * its cores of 1 / (ranks that may use the core), rounded down, at least one. Equal masks divide
 * the cores among the ranks; disjoint masks give each rank its own. */
int lks_threads_per_rank(const uint64_t *masks, int words, int local_rank, int local_size) {
    double share = 0;
    for (int word = 0; word < words; word++) {
        for (int bit = 0; bit < 64; bit++) {
            const uint64_t core = UINT64_C(1) << bit;
            if (!(masks[(size_t)local_rank * (size_t)words + (size_t)word] & core)) continue;
            int users = 0;
            for (int rank = 0; rank < local_size; rank++)
                users += (masks[(size_t)rank * (size_t)words + (size_t)word] & core) != 0;
            share += 1.0 / users;
        }
    }
    const int threads = (int)(share + 1e-6); /* 3 * (1.0 / 3) must count as 1 */
    return threads < 1 ? 1 : threads;
}
