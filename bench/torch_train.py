"""One PyTorch measurement for bench/run: trains a model on random samples in memory and prints, as JSON, samples per second of
every variant (optimizer implementation, memory layout).

The loop is the fastest that PyTorch's eager mode offers: the samples are shuffled before, so that a batch is a slice, and nothing is
read back while an epoch runs.
"""

import argparse
import json
import os
import statistics
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def mlp():
    return nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))


def cnn():
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128 * 8 * 8, 256), nn.ReLU(), nn.Linear(256, 10))


def digits():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 32, 3, padding=1), nn.SiLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(512, 64), nn.SiLU(), nn.Linear(64, 10))


def overlap():
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128 * 8 * 8, 256), nn.ReLU(), nn.Linear(256, 10))


def sgd(params, **how):
    return torch.optim.SGD(params, lr=0.01, momentum=0.9, **how)


def adamw(params, **how):
    return torch.optim.AdamW(params, lr=1e-3, **how)


# name: (model, shape of a sample, optimizer, global batch, samples of an epoch)
MODELS = {
    "mlp": (mlp, (784,), adamw, 256, 10240),
    "cnn": (cnn, (3, 32, 32), sgd, 64, 1280),
    "digits": (digits, (1, 8, 8), adamw, 64, 1438),
    "overlap": (overlap, (3, 32, 32), sgd, 128, 1280),
}


def variants(shape, bucket_mib):
    layouts = ["contiguous", "channels_last"] if len(shape) == 3 else ["contiguous"]
    return [(how, layout, mib) for how in ("fused", "foreach") for layout in layouts for mib in bucket_mib]


def train_epoch(model, optimizer, loss_function, inputs, targets, batch):
    total = torch.zeros(())
    for first in range(0, len(inputs), batch):
        optimizer.zero_grad()
        loss = loss_function(model(inputs[first:first + batch]), targets[first:first + batch])
        loss.backward()
        optimizer.step()
        total += loss.detach()
    return total.item()


def measure(name, epochs, rank, ranks, bucket_mib, only):
    """{variant: samples per second over all ranks, the median of the epochs but the first}"""
    build, shape, make_optimizer, batch, samples = MODELS[name]
    results = {}
    for how, layout, mib in variants(shape, bucket_mib):
        variant = f"{how}, {layout}" + (f", buckets of {mib} MiB" if len(bucket_mib) > 1 else "")
        if only not in (None, variant):
            continue
        torch.manual_seed(1)
        model = build()
        generator = torch.Generator().manual_seed(2 + rank)
        inputs = torch.randn(samples // ranks, *shape, generator=generator)
        targets = torch.randint(0, 10, (samples // ranks,), generator=generator)
        if layout == "channels_last":
            model = model.to(memory_format=torch.channels_last)
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        if ranks > 1:
            model = DistributedDataParallel(model, gradient_as_bucket_view=True, bucket_cap_mb=mib)
        optimizer = make_optimizer(model.parameters(), **{how: True})
        loss_function = nn.CrossEntropyLoss()
        rates = []
        for _ in range(epochs):
            if ranks > 1:
                dist.barrier()
            start = time.perf_counter()
            train_epoch(model, optimizer, loss_function, inputs, targets, batch // ranks)
            if ranks > 1:
                dist.barrier()
            rates.append(samples / (time.perf_counter() - start))
        results[variant] = statistics.median(rates[1:])
    return results


def first_step(name, rank, ranks):
    """The moment at which the first step is done."""
    build, shape, make_optimizer, batch, _ = MODELS[name]
    model = DistributedDataParallel(build()) if ranks > 1 else build()
    optimizer = make_optimizer(model.parameters(), fused=True)
    inputs, targets = torch.randn(batch // ranks, *shape), torch.randint(0, 10, (batch // ranks,))
    train_epoch(model, optimizer, nn.CrossEntropyLoss(), inputs, targets, batch // ranks)
    return time.time()


def run(rank, arguments):
    torch.set_num_threads(arguments.threads)
    if arguments.ranks > 1:
        dist.init_process_group("gloo", rank=rank, world_size=arguments.ranks)
    if arguments.start_up:
        result = {"first_step": first_step(arguments.model, rank, arguments.ranks)}
    else:
        result = measure(arguments.model, arguments.epochs, rank, arguments.ranks, arguments.bucket_mib, arguments.variant)
    if rank == 0:
        print(json.dumps(result), flush=True)
    if arguments.ranks > 1:
        dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--bucket-mib", type=int, nargs="+", default=[25], help="buckets of DistributedDataParallel to try")
    parser.add_argument("--variant", help="measure this one alone")
    parser.add_argument("--start-up", action="store_true", help="print when the first step was done")
    arguments = parser.parse_args()
    if "RANK" in os.environ:  # started once for each rank
        run(int(os.environ["RANK"]), arguments)
    else:
        run(0, arguments)


if __name__ == "__main__":
    main()
