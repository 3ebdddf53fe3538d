"""PyTorch's side of bench/optim: times one optimizer's update of one parameter, in every variant that it offers on a CPU.

    torch_optim.py TYPE OPTIONS PARAMETERS THREADS TURNS

OPTIONS are Lockstep's. Prints {variant: [seconds, ...]} as JSON.
"""

import ast
import json
import sys
import time

import torch

TYPES = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop,
         "adagrad": torch.optim.Adagrad}
VARIANTS = {"fused": {"fused": True}, "foreach": {"foreach": True}, "for-loop": {"foreach": False}}


def parse(options):
    """Lockstep's options as keyword arguments."""
    words = {"true": True, "false": False}
    pairs = (pair.split("=", 1) for pair in options.split())
    return {key: words[value] if value in words else ast.literal_eval(value) for key, value in pairs}


def make(kind, options, variant, count):
    """The optimizer, or None where it does not have the variant."""
    parameter = torch.nn.Parameter(torch.arange(count, dtype=torch.float32).remainder_(1009).sub_(504).div_(500))
    parameter.grad = torch.arange(count, dtype=torch.float32).remainder_(997).sub_(498).div_(5000)
    try:
        return TYPES[kind]([parameter], **parse(options), **VARIANTS[variant])
    except TypeError:
        return None


def main():
    kind, options = sys.argv[1:3]
    count, threads, turns = map(int, sys.argv[3:6])
    torch.set_num_threads(threads)
    seconds = {}
    for variant in VARIANTS:  # one after the other: all at once would not fit into memory everywhere
        optimizer = make(kind, options, variant, count)
        if not optimizer:
            continue
        optimizer.step()  # makes the state
        seconds[variant] = []
        for _ in range(turns):
            start = time.perf_counter()
            optimizer.step()
            seconds[variant].append(time.perf_counter() - start)
        del optimizer
    print(json.dumps(seconds))


main()
