"""PyTorch's side of bench/gpu, one measurement on the GPU:

    torch_gpu.py mlp|cnn|digits    samples per second of every variant
    torch_gpu.py product           TFLOP/s of a plain bfloat16 product of 8192 x 8192 matrices
    torch_gpu.py adamw COUNT       seconds of an update of COUNT parameters by the fused AdamW

Prints one JSON object. Training is the fastest loop that PyTorch offers: samples in the GPU's memory, shuffled before, so that a
batch is a slice, and nothing read back while an epoch runs.
"""

import json
import statistics
import sys
import time

import torch
from torch import nn

from torch_train import adamw, cnn, digits, sgd

TURNS = 5


def mlp():
    return nn.Sequential(nn.Linear(784, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(),
                         nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 10))


# name: (model, shape of a sample, optimizer, batch, samples, in bfloat16?, compiled as well?)
MODELS = {
    "mlp": (mlp, (784,), adamw, 4096, 20 * 4096, True, True),
    "cnn": (cnn, (3, 32, 32), sgd, 512, 40 * 512, True, True),
    "digits": (digits, (1, 8, 8), adamw, 64, 1438, False, False),
}


def rate(name, compiled):
    """Samples per second, the median of the epochs but the first."""
    build, shape, make_optimizer, batch, samples, bf16, _ = MODELS[name]
    torch.manual_seed(1)
    model, inputs = build().cuda(), torch.randn(samples, *shape, device="cuda")
    targets = torch.randint(0, 10, (samples,), device="cuda")
    if len(shape) == 3:
        model = model.to(memory_format=torch.channels_last)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    optimizer, loss_function = make_optimizer(model.parameters(), fused=True), nn.CrossEntropyLoss()
    forward = torch.compile(model, mode="max-autotune-no-cudagraphs" if compiled == "autotuned" else None) if compiled else model

    def step(first):
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            loss = loss_function(forward(inputs[first:first + batch]), targets[first:first + batch])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    rates = []
    for _ in range(TURNS + 1):
        torch.cuda.synchronize()
        start, total = time.perf_counter(), torch.zeros((), device="cuda")
        for first in range(0, samples, batch):
            total += step(first)
        total.item()
        rates.append(samples / (time.perf_counter() - start))
    return statistics.median(rates[1:])


def product():
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    rates = []
    for _ in range(TURNS + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(10):
            torch.matmul(a, b)
        torch.cuda.synchronize()
        rates.append(10 * 2 * 8192**3 / (time.perf_counter() - start) / 1e12)
    return statistics.median(rates[1:])


def update(count):
    parameter = nn.Parameter(torch.randn(count, device="cuda"))
    parameter.grad = torch.randn(count, device="cuda")
    optimizer = adamw([parameter], fused=True)
    seconds = []
    for _ in range(TURNS + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        optimizer.step()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def main():
    what = sys.argv[1]
    if what == "product":
        print(json.dumps({"tflops": product()}))
    elif what == "adamw":
        print(json.dumps({"seconds": update(int(sys.argv[2]))}))
    else:
        rates = {"eager": rate(what, False)}
        if MODELS[what][-1]:
            rates["compiled"] = rate(what, True)
            rates["compiled, autotuned"] = rate(what, "autotuned")
        print(json.dumps(rates))


if __name__ == "__main__":
    main()
