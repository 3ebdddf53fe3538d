"""Writes tests/parity/golden/sched.h5: the learning rates of every schedule over 200 epochs, as PyTorch's chained step() gives
them, in float64. A case is a group with its type, its options as Lockstep writes them, the name of its lambda, the optimizer's rate, the rates,
and the momentum where the schedule changes it.
"""

import ast
import re

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

# tests/parity/test_sched.c has the same.
LAMBDAS = {
    "decay": lambda epoch: 0.95**epoch,
    "inverse": lambda epoch: 1 / (1 + 0.1 * epoch),
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
    ("one_cycle", "max_lr=0.5 total_steps=200 base_momentum=0.5 max_momentum=0.99"),
    ("one_cycle", "max_lr=0.5 total_steps=200 cycle_momentum=false"),
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
    ("lambda", "", "decay"),
    ("lambda", "", "inverse"),
    ("sequential", 'schedules=["step step_size=7 gamma=0.9"] milestones=[]'),
    ("sequential", 'schedules=["linear start_factor=0.1 total_iters=5", "cosine_annealing T_max=195 eta_min=0.001"] milestones=[5]'),
    ("sequential", 'schedules=["linear start_factor=0.1 total_iters=50", "exponential gamma=0.97"] milestones=[1]'),
    ("sequential", 'schedules=["linear", "cosine_annealing_warm_restarts T_0=7 T_mult=2", "polynomial total_iters=60 power=2"] milestones=[8,120]'),
    ("sequential", 'schedules=["exponential gamma=0.9", "step step_size=30", "linear start_factor=0.5", "multi_step milestones=[10,20]"] '
                   "milestones=[10,11,90]"),
    ("sequential", 'schedules=["linear start_factor=0.1 total_iters=10", "one_cycle max_lr=0.7 total_steps=190"] milestones=[10]'),
    ("sequential", 'schedules=["one_cycle max_lr=0.7 total_steps=100 base_momentum=0.6", "step step_size=20"] milestones=[100]'),
    ("sequential", 'schedules=["step step_size=5", "one_cycle max_lr=0.7 total_steps=100", "linear"] milestones=[20,120]'),
    ("sequential", 'schedules=["linear start_factor=0.1", "lambda"] milestones=[5]', "inverse"),
]


def pairs_of(options):
    """key=value pairs; a value may be a list, whose elements may be quoted."""
    return re.findall(r'(\w+)=(\[(?:"[^"]*"|[^\]"])*\]|\S+)', options)


def value_of(text):
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except ValueError:
        return text


def make(optimizer, kind, options, function):
    arguments = {key: value_of(value) for key, value in pairs_of(options)}
    if kind == "lambda":
        return lr_scheduler.LambdaLR(optimizer, LAMBDAS[function])
    if kind == "sequential":
        parts = [make(optimizer, *f"{text} ".split(" ", 1), function) for text in arguments["schedules"]]
        return lr_scheduler.SequentialLR(optimizer, parts, arguments["milestones"])
    return TYPES[kind](optimizer, **arguments)


def run(out, kind, options, function, base, metrics):
    untouched = 0.123
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base, momentum=untouched)
    group = optimizer.param_groups[0]
    schedule = make(optimizer, kind, options, function)
    rates, momenta = [group["lr"]], [group["momentum"]]
    for epoch in range(EPOCHS - 1):
        optimizer.step()
        if kind == "reduce_on_plateau":
            schedule.step(metrics[epoch])
        else:
            schedule.step()
        rates.append(group["lr"])
        momenta.append(group["momentum"])
    out.attrs["type"] = kind
    out.attrs["options"] = options
    out.attrs["lambda"] = function
    out.attrs["base_lr"] = base
    out.create_dataset("lr", data=np.array(rates, dtype=np.float64))
    out.attrs["cycles_momentum"] = int(untouched not in momenta)
    if untouched not in momenta:
        out.create_dataset("momentum", data=np.array(momenta, dtype=np.float64))


def main():
    with create("sched.h5", seed=20240612) as file:
        # A loss that falls, stays, and jumps, with noise.
        epochs = torch.arange(EPOCHS, dtype=torch.float64)
        metrics = 2 * torch.exp(-epochs / 25) + 0.3 + 0.05 * torch.randn(EPOCHS, dtype=torch.float64)
        metrics[120:] += 0.2
        metrics[60] = float("nan")
        file.create_dataset("metrics", data=metrics.numpy())
        file.attrs["cases"] = len(CASES)
        for index, (kind, options, *function) in enumerate(CASES):
            base = 0.1 if index % 2 else 0.3
            run(group(file, f"case{index}"), kind, options, "".join(function), base, metrics.tolist())


main()
