"""PyTorch's side of bench/gpu, one measurement on the GPU:

    torch_gpu.py mlp|cnn|digits    samples per second of every variant
    torch_gpu.py product           TFLOP/s of a plain bfloat16 product of 8192 x 8192 matrices
    torch_gpu.py adamw             seconds of an update of 10^9 parameters by the fused AdamW

Prints a JSON object a line, {"variant": ..., "value": ...} or {"variant": ..., "error": ...}, as soon as it is known: compiling may take
longer than there is time. --seconds says how much there is; no variant starts in the last quarter of it.

PyTorch gets the fastest loop that it offers. Samples are in the GPU's memory, shuffled before, so that a batch is a slice; nothing is
read back while an epoch runs; images are channels_last; optimizers are fused; cuDNN looks for its fastest algorithm; float32 products
and convolutions may use TF32, which Lockstep does not with the digits. Compiled variants are compiled together with their loss.
The first epoch warms up, compiles and records, and is not counted.

--rehearse runs all of it in small on the CPU, so that no mistake waits for a GPU. Its figures mean nothing.
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn

from torch_train import adamw, cnn, digits, sgd

TURNS = 5


def mlp():
    return nn.Sequential(nn.Linear(784, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(),
                         nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 10))


# The modes of torch.compile; None: not compiled. "reduce-overhead" records CUDA graphs.
EAGER = {"eager": None}
COMPILED = {"compiled": "default", "compiled, CUDA graphs": "reduce-overhead", "compiled, autotuned": "max-autotune"}

# name: (model, shape of a sample, optimizer, batch, samples of an epoch, in bfloat16?, variants)
MODELS = {
    "mlp": (mlp, (784,), adamw, 4096, 60 * 4096, True, EAGER | COMPILED),
    "cnn": (cnn, (3, 32, 32), sgd, 512, 200 * 512, True, EAGER | COMPILED),
    "digits": (digits, (1, 8, 8), adamw, 64, 1438, False, EAGER),
}


class Machine:
    """The GPU at full size, or the CPU in small."""

    def __init__(self, rehearse):
        self.device = "cpu" if rehearse else "cuda"
        self.steps = 3 if rehearse else None  # of an epoch
        self.matrix = 64 if rehearse else 8192
        self.parameters = 1000 if rehearse else 1_000_000_000

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work):
        """Of each turn but the first, which warms up; to the end of the last kernel."""
        seconds = []
        for _ in range(TURNS + 1):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            seconds.append(time.perf_counter() - start)
        return seconds[1:]


def rate(machine, name, mode):
    """Samples per second, the median of the epochs."""
    build, shape, make_optimizer, batch, samples, bf16, _ = MODELS[name]
    if machine.steps:
        batch, samples = 8, 8 * machine.steps
    torch.manual_seed(1)
    model, inputs = build().to(machine.device), torch.randn(samples, *shape, device=machine.device)
    targets = torch.randint(0, 10, (samples,), device=machine.device)
    if len(shape) == 3:
        model = model.to(memory_format=torch.channels_last)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    optimizer, loss_function = make_optimizer(model.parameters(), fused=True), nn.CrossEntropyLoss()

    def loss_of(x, y):
        return loss_function(model(x), y)

    forward = torch.compile(loss_of, mode=mode) if mode else loss_of

    def epoch():
        total = torch.zeros((), device=machine.device)
        for first in range(0, samples, batch):
            with torch.autocast(machine.device, torch.bfloat16, enabled=bf16):
                loss = forward(inputs[first:first + batch], targets[first:first + batch])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            total += loss.detach()
            del loss  # its memory is the next replay's

    return samples / statistics.median(machine.seconds(epoch))


def product(machine):
    """TFLOP/s."""
    n, passes = machine.matrix, 50
    a, b = (torch.randn(n, n, device=machine.device, dtype=torch.bfloat16) for _ in range(2))
    c = torch.empty_like(a)

    def multiply():
        for _ in range(passes):
            torch.matmul(a, b, out=c)

    return passes * 2 * n**3 / statistics.median(machine.seconds(multiply)) / 1e12


def update(machine):
    """Seconds of one update."""
    passes = 5
    parameter = nn.Parameter(torch.randn(machine.parameters, device=machine.device))
    parameter.grad = torch.randn(machine.parameters, device=machine.device)
    optimizer = adamw([parameter], fused=True)

    def step():
        for _ in range(passes):
            optimizer.step()

    return statistics.median(machine.seconds(step)) / passes


def variants(machine, what):
    """name: a function that measures it"""
    if what == "product":
        return {"plain": lambda: product(machine)}
    if what == "adamw":
        return {"fused": lambda: update(machine)}
    return {name: lambda mode=mode: rate(machine, what, mode) for name, mode in MODELS[what][-1].items()}


def main():
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*MODELS, "product", "adamw"])
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--rehearse", action="store_true")
    arguments = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")
    for name, measure in variants(Machine(arguments.rehearse), arguments.what).items():
        line = {"variant": name}
        if time.monotonic() - began > 0.75 * arguments.seconds:
            line["error"] = "there was no time for it"
        else:
            try:
                line["value"] = measure()
            except Exception as error:  # whatever a compiler may say: the other variants count
                line["error"] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            torch.compiler.reset()
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
