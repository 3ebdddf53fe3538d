"""Lockstep's random numbers, written down a second time from their definition, so that a golden file needs neither
weights nor orders: PyTorch starts from the same ones.

Philox 4x32-10: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11.
"""

import numpy as np

INIT, SHUFFLE = 1, 2
MASK = np.uint64(0xFFFFFFFF)


def philox(key, counter, high):
    """The 4 words of each counter (an array of uint64): uint32 [len(counter), 4]."""
    counter = np.asarray(counter, dtype=np.uint64)
    high = np.uint64(high)
    shift = np.uint64(32)
    x = [counter & MASK, counter >> shift, np.full_like(counter, high & MASK), np.full_like(counter, high >> shift)]
    k = [int(key[0]), int(key[1])]
    for _ in range(10):
        a, b = x[0] * np.uint64(0xD2511F53), x[2] * np.uint64(0xCD9E8D57)
        x = [(b >> shift) ^ x[1] ^ np.uint64(k[0]), b & MASK, (a >> shift) ^ x[3] ^ np.uint64(k[1]), a & MASK]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(x, axis=1).astype(np.uint32)


def key(seed, purpose, stream):
    words = philox((seed & 0xFFFFFFFF, seed >> 32), [stream], purpose)[0]
    return words[0], words[1]


def initial(seed, index, shape, fan_in):
    """Parameter `index` of a model: uniform in [-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    count = int(np.prod(shape))
    words = philox(key(seed, INIT, index), np.arange((count + 3) // 4), 0).reshape(-1)[:count]
    uniform = (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    return ((2 * uniform - 1) * np.float32(1 / np.sqrt(float(fan_in)))).reshape(shape)


def permutation(seed, epoch, count):
    """The order of an epoch: Fisher and Yates' shuffle, from the end down; element i takes word i % 4 of block i / 4."""
    words = philox(key(seed, SHUFFLE, epoch & 0xFFFFFFFF), np.arange((count + 3) // 4), epoch >> 32).reshape(-1)
    order = np.arange(count)
    for i in range(count - 1, 0, -1):
        j = (int(words[i]) * (i + 1)) >> 32
        order[i], order[j] = order[j], order[i]
    return order
