#include "base/philox.h"

enum { ROUNDS = 10 };

/* The multipliers and the key's Weyl increments (golden ratio, sqrt(3) - 1) of the paper. */
static const uint32_t multiplier[2] = {0xD2511F53u, 0xCD9E8D57u};
static const uint32_t weyl[2] = {0x9E3779B9u, 0xBB67AE85u};

lks_philox_block lks_philox(lks_philox_key key, uint64_t counter, uint64_t high) {
    lks_philox_block x = {
        {(uint32_t)counter, (uint32_t)(counter >> 32), (uint32_t)high, (uint32_t)(high >> 32)}};
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t a = (uint64_t)multiplier[0] * x.word[0];
        uint64_t b = (uint64_t)multiplier[1] * x.word[2];
        x = (lks_philox_block){{(uint32_t)(b >> 32) ^ x.word[1] ^ key.word[0], (uint32_t)b,
                                (uint32_t)(a >> 32) ^ x.word[3] ^ key.word[1], (uint32_t)a}};
        key.word[0] += weyl[0];
        key.word[1] += weyl[1];
    }
    return x;
}

lks_philox_key lks_philox_key_make(uint64_t seed, lks_random_purpose purpose, uint32_t stream) {
    lks_philox_key seed_key = {{(uint32_t)seed, (uint32_t)(seed >> 32)}};
    lks_philox_block block = lks_philox(seed_key, stream, (uint64_t)purpose);
    return (lks_philox_key){{block.word[0], block.word[1]}};
}

float lks_philox_uniform(uint32_t word) {
    return (float)(word >> 8) * 0x1p-24f;
}

uint64_t lks_philox_below(uint32_t word, uint64_t bound) {
    /* bound <= 2^32, so that the product is below 2^64 */
    return ((uint64_t)word * bound) >> 32;
}
