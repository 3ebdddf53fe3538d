"""Writes tests/parity/golden/sched.h5: the learning rates of every schedule over 200 epochs, as PyTorch's chained step() gives
them, in float64. A case is a group with its type, its options as Lockstep writes them, the optimizer's rate, and the rates.
"""

import ast

import numpy as np
import torch
from torch.optim import lr_scheduler

from golden import create, group

EPOCHS = 200

TYPES = {
    "step": lr_scheduler.StepLR,
    "multi_step": lr_scheduler.MultiStepLR,
    "exponential": lr_scheduler.ExponentialLR,
    "cosine_annealing": lr_scheduler.CosineAnnealingLR,
    "cosine_annealing_warm_restarts": lr_scheduler.CosineAnnealingWarmRestarts,
    "one_cycle": lr_scheduler.OneCycleLR,
    "linear": lr_scheduler.LinearLR,
    "polynomial": lr_scheduler.PolynomialLR,
    "reduce_on_plateau": lr_scheduler.ReduceLROnPlateau,
}

CASES = [
    ("step", "step_size=1"),
    ("step", "step_size=30"),
    ("step", "step_size=7 gamma=0.9"),
    ("step", "step_size=500 gamma=0.5"),
    ("multi_step", "milestones=[30,80,81,150]"),
    ("multi_step", "milestones=[10,10,11] gamma=0.7"),
    ("multi_step", "milestones=[1] gamma=1.5"),
    ("exponential", "gamma=0.97"),
    ("exponential", "gamma=1.01"),
    ("cosine_annealing", "T_max=200"),
    ("cosine_annealing", "T_max=30"),
    ("cosine_annealing", "T_max=1"),
    ("cosine_annealing", "T_max=33 eta_min=0.01"),
    ("cosine_annealing_warm_restarts", "T_0=10"),
    ("cosine_annealing_warm_restarts", "T_0=1"),
    ("cosine_annealing_warm_restarts", "T_0=7 T_mult=2 eta_min=0.001"),
    ("one_cycle", "max_lr=0.5 total_steps=200"),
    ("one_cycle", "max_lr=0.5 total_steps=200 anneal_strategy=linear"),
    ("one_cycle", "max_lr=0.5 total_steps=200 three_phase=true pct_start=0.4"),
    ("one_cycle", "max_lr=0.5 total_steps=200 three_phase=true anneal_strategy=linear div_factor=10 final_div_factor=100"),
    ("one_cycle", "max_lr=0.5 total_steps=200 pct_start=0.0"),
    ("one_cycle", "max_lr=0.5 total_steps=200 pct_start=1.0"),
    ("linear", ""),
    ("linear", "start_factor=0.01 total_iters=50"),
    ("linear", "start_factor=1 end_factor=0 total_iters=100"),
    ("linear", "start_factor=0.25 end_factor=0.5 total_iters=1"),
    ("polynomial", ""),
    ("polynomial", "total_iters=150 power=2"),
    ("polynomial", "total_iters=200 power=0.5"),
    ("reduce_on_plateau", ""),
    ("reduce_on_plateau", "factor=0.5 patience=3"),
    ("reduce_on_plateau", "factor=0.5 patience=0 cooldown=4 threshold=0.05"),
    ("reduce_on_plateau", "factor=0.5 patience=2 threshold=0.02 threshold_mode=abs min_lr=0.01"),
    ("reduce_on_plateau", "factor=0.3 patience=2 eps=0.001"),
    ("reduce_on_plateau", "mode=max factor=0.9 patience=2 threshold=0.01"),
    ("reduce_on_plateau", "mode=max factor=0.9 patience=1 threshold=0.1 threshold_mode=abs cooldown=1"),
]


def value_of(text):
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except ValueError:
        return text


def run(out, kind, options, base, metrics):
    arguments = {key: value_of(value) for key, value in (pair.split("=", 1) for pair in options.split())}
    if kind == "one_cycle":
        arguments["cycle_momentum"] = False
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    schedule = TYPES[kind](optimizer, **arguments)
    rates = [optimizer.param_groups[0]["lr"]]
    for epoch in range(EPOCHS - 1):
        optimizer.step()
        if kind == "reduce_on_plateau":
            schedule.step(metrics[epoch])
        else:
            schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    out.attrs["type"] = kind
    out.attrs["options"] = options
    out.attrs["base_lr"] = base
    out.create_dataset("lr", data=np.array(rates, dtype=np.float64))


def main():
    with create("sched.h5", seed=20240612) as file:
        # A loss that falls, stays, and jumps, with noise.
        epochs = torch.arange(EPOCHS, dtype=torch.float64)
        metrics = 2 * torch.exp(-epochs / 25) + 0.3 + 0.05 * torch.randn(EPOCHS, dtype=torch.float64)
        metrics[120:] += 0.2
        metrics[60] = float("nan")
        file.create_dataset("metrics", data=metrics.numpy())
        file.attrs["cases"] = len(CASES)
        for index, (kind, options) in enumerate(CASES):
            run(group(file, f"case{index}"), kind, options, 0.1 if index % 2 else 0.3, metrics.tolist())


main()
