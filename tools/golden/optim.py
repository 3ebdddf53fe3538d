"""Writes tests/parity/golden/optim.h5: every optimizer with every option, and options that interact, over 50 steps.

All cases start from the same parameters and see the same gradients, in float32 as PyTorch's own default update computes it.
A case is a group with its type, its options as Lockstep writes them, the learning rate of every step, and the parameters and
state after steps 1, 10 and 50.
"""

import ast

import numpy as np
import torch

from golden import create, group, put

STEPS = 50
SAVED = (1, 10, 50)
COUNT = 77
TYPES = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}

CASES = [
    ("sgd", ""),
    ("sgd", "lr=0.1"),
    ("sgd", "lr=0.1 momentum=0.9"),
    ("sgd", "lr=0.1 momentum=0.9 dampening=0.3"),
    ("sgd", "lr=0.1 momentum=0.9 nesterov=true"),
    ("sgd", "lr=0.1 weight_decay=0.05"),
    ("sgd", "lr=0.1 momentum=0.8 weight_decay=0.05"),
    ("sgd", "lr=0.1 momentum=0.8 dampening=0.5 weight_decay=0.05"),
    ("sgd", "lr=0.1 momentum=0.9 nesterov=true weight_decay=0.05"),
    ("sgd", "lr=0.01 maximize=true"),
    ("sgd", "lr=0.01 momentum=0.9 nesterov=true weight_decay=0.05 maximize=true"),
]
for name in ("adam", "adamw"):
    CASES += [
        (name, ""),
        (name, "lr=0.01"),
        (name, "lr=0.01 betas=[0.8,0.95]"),
        (name, "lr=0.01 betas=[0.0,0.9]"),
        (name, "lr=0.01 betas=[0.4,0.0]"),
        (name, "lr=0.01 eps=0.1"),
        (name, "lr=0.01 weight_decay=0.1"),
        (name, "lr=0.01 weight_decay=0"),
        (name, "lr=0.01 amsgrad=true"),
        (name, "lr=0.01 amsgrad=true weight_decay=0.1"),
        (name, "lr=0.01 maximize=true"),
        (name, "lr=0.01 betas=[0.7,0.9] eps=1e-4 weight_decay=0.1 amsgrad=true maximize=true"),
    ]


def parse(options):
    """Lockstep's options as keyword arguments."""
    pairs = (pair.split("=", 1) for pair in options.split())
    words = {"true": "True", "false": "False"}
    values = {key: ast.literal_eval(words.get(value, value)) for key, value in pairs}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def run(out, kind, options, changing, initial, gradients):
    parameter = torch.nn.Parameter(initial.clone())
    optimizer = TYPES[kind]([parameter], **parse(options))
    base = optimizer.param_groups[0]["lr"]
    rates = np.array([base * 0.97**step if changing else base for step in range(STEPS)])
    out.attrs["type"] = kind
    out.attrs["options"] = options
    out.attrs["lr"] = rates
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = float(rates[step])
        parameter.grad = gradients[step].clone()
        optimizer.step()
        if step + 1 in SAVED:
            saved = group(out, f"step{step + 1}")
            put(saved, "param", parameter)
            for key, value in optimizer.state[parameter].items():
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                    put(saved, key, value)


def main():
    with create("optim.h5", seed=20240611) as file:
        initial = torch.randn(COUNT)
        # Large at first, so that amsgrad's maximum differs from the mean; some parameters never or seldom see a gradient.
        scale = 1 + 4 * torch.exp(-torch.arange(STEPS) / 8.0)
        gradients = torch.randn(STEPS, COUNT) * scale[:, None]
        gradients[:, 5] = 0
        gradients[::7, 6] = 0
        gradients[:, 7] *= 1e-6
        put(file, "initial", initial)
        put(file, "gradients", gradients)
        cases = [(kind, options, False) for kind, options in CASES]
        cases += [("sgd", "lr=0.1 momentum=0.9 weight_decay=0.05", True), ("adamw", "lr=0.01 weight_decay=0.1", True)]
        file.attrs["cases"] = len(cases)
        for index, (kind, options, changing) in enumerate(cases):
            run(group(file, f"case{index}"), kind, options, changing, initial, gradients)


main()
