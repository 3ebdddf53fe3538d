/* Settings, random choices, and the end of a test that failed. */
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "emu.h"

namespace emu {

static uint64_t number_from(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    if (!text || !*text) return otherwise;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || *end) {
        fprintf(stderr, "cuda_emu: %s=%s is not a number\n", name, text);
        abort();
    }
    return value;
}

static void at_exit(int status, void *) {
    if (status)
        fprintf(stderr, "cuda_emu: to repeat this order of execution: LKS_CUDA_EMU_SEED=%llu\n",
                (unsigned long long)settings().seed);
}

static Settings read_settings() {
    Settings s;
    s.seed = number_from("LKS_CUDA_EMU_SEED", 1);
    s.devices = (int)number_from("LKS_CUDA_EMU_DEVICES", 1);
    s.memory_bytes = number_from("LKS_CUDA_EMU_MEMORY_MIB", 2048) << 20;
    on_exit(at_exit, nullptr);
    return s;
}

const Settings &settings() {
    static const Settings all = read_settings();
    return all;
}

void fail(const char *format, ...) {
    static bool failing; /* a failure while saying so */
    if (failing) abort();
    failing = true;
    Quiet quiet;
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    std::string place = where();
    /* To the descriptor: a test may have turned the stream away. */
    dprintf(STDERR_FILENO, "cuda_emu: %s%s%s (LKS_CUDA_EMU_SEED=%llu)\n", place.c_str(),
            place.empty() ? "" : ": ", text, (unsigned long long)settings().seed);
    abort();
}

uint64_t Random::next() { /* splitmix64, Steele, Lea and Flood 2014 */
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

size_t Random::below(size_t n) {
    return (size_t)(next() % n);
}

Permutation::Permutation(uint64_t n, Random &random) : count(n), factor(1), shift(random.below(n)) {
    /* Small enough that no product overflows, and without a common divisor with the count. */
    for (int attempt = 0; attempt < 16; attempt++) {
        uint64_t candidate = 1 + random.below(n < 65536 ? n : 65536);
        if (std::gcd(candidate, n) == 1) {
            factor = candidate;
            break;
        }
    }
}

} // namespace emu
