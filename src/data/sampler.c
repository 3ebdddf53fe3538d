/* Which samples are in which global batch. */
#include "data/data.h"

void lks_sampler_permutation(uint64_t seed, int64_t epoch, int64_t count, int64_t *order) {
    enum { WORDS = 4 };
    lks_philox_key key = lks_philox_key_make(seed, LKS_RANDOM_SHUFFLE, (uint32_t)epoch);
    uint64_t high = (uint64_t)epoch >> 32;
    for (int64_t i = 0; i < count; i++)
        order[i] = i;
    /* From the end down, as the words of a block come up once each. */
    lks_philox_block block = lks_philox(key, (uint64_t)(count > 0 ? count - 1 : 0) / WORDS, high);
    for (int64_t i = count - 1; i > 0; i--) {
        int64_t j = (int64_t)lks_philox_below(block.word[i % WORDS], (uint64_t)i + 1);
        int64_t moved = order[i];
        order[i] = order[j];
        order[j] = moved;
        if (i % WORDS == 0) block = lks_philox(key, (uint64_t)i / WORDS - 1, high);
    }
}

int64_t lks_sampler_steps(int64_t count, int64_t batch_size, bool drop_last) {
    return count / batch_size + (!drop_last && count % batch_size != 0);
}

void lks_sampler_batch(int64_t count, int64_t batch_size, int64_t step, int64_t *begin,
                       int64_t *end) {
    *begin = step * batch_size < count ? step * batch_size : count;
    *end = count - *begin < batch_size ? count : *begin + batch_size;
}
