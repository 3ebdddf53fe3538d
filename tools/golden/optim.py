"""Writes tests/parity/golden/optim.h5: every optimizer with every option, and options that interact, over 50 steps.

All cases start from the same parameters and see the same gradients, in float32 as PyTorch's single-tensor update computes it
(foreach=False). A case is an HDF5 group with its type, its options as Lockstep writes them, those of a second parameter group
("" for none: the elements from SPLIT on), the learning rates [STEPS][groups] and momenta (or beta1) of every step, and the
parameters and state after steps 1, 10 and 50.
"""

import ast

import numpy as np
import torch

from golden import create, group, put

STEPS = 50
SAVED = (1, 10, 50)
COUNT = 77
SPLIT = 29  # where the second parameter group begins
TYPES = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop,
         "adagrad": torch.optim.Adagrad}

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

CASES += [
    ("rmsprop", ""),
    ("rmsprop", "lr=0.002"),
    ("rmsprop", "alpha=0.9"),
    ("rmsprop", "alpha=0.4"),
    ("rmsprop", "alpha=0"),
    ("rmsprop", "eps=0.01"),
    ("rmsprop", "weight_decay=0.1"),
    ("rmsprop", "momentum=0.9 lr=0.002"),
    ("rmsprop", "momentum=0.9 weight_decay=0.1 lr=0.002"),
    ("rmsprop", "centered=true"),
    ("rmsprop", "centered=true alpha=0.9 eps=0.01"),
    ("rmsprop", "centered=true momentum=0.9 lr=0.002"),
    ("rmsprop", "centered=true momentum=0.8 weight_decay=0.1 lr=0.002"),
    ("rmsprop", "maximize=true"),
    ("rmsprop", "centered=true momentum=0.8 weight_decay=0.1 maximize=true lr=0.002"),
    ("adagrad", ""),
    ("adagrad", "lr=0.1"),
    ("adagrad", "lr=0.1 lr_decay=0.05"),
    ("adagrad", "lr=0.1 weight_decay=0.1"),
    ("adagrad", "lr=0.1 initial_accumulator_value=0.5"),
    ("adagrad", "lr=0.1 eps=0.1"),
    ("adagrad", "lr=0.1 maximize=true"),
    ("adagrad", "lr=0.1 lr_decay=0.05 weight_decay=0.1"),
    ("adagrad", "lr=0.1 lr_decay=0.02 weight_decay=0.1 initial_accumulator_value=0.1 eps=1e-3 maximize=true"),
]

# A second group that overrides some options, and rates that change from step to step.
GROUPED = [
    ("sgd", "lr=0.1 momentum=0.9 weight_decay=0.05", "weight_decay=0"),
    ("sgd", "lr=0.1 momentum=0.9 nesterov=true", "lr=0.02 momentum=0.5 nesterov=false dampening=0.2"),
    ("sgd", "lr=0.1", "momentum=0.9"),
    ("adam", "lr=0.01 weight_decay=0.1", "weight_decay=0 betas=[0.7,0.9]"),
    ("adamw", "lr=0.01 weight_decay=0.1", "weight_decay=0 amsgrad=true"),
    ("rmsprop", "lr=0.002 weight_decay=0.1", "momentum=0.9 centered=true"),
    ("adagrad", "lr=0.1 weight_decay=0.1", "lr=0.05 initial_accumulator_value=0.5 lr_decay=0.1"),
]
CHANGING = [
    ("sgd", "lr=0.1 momentum=0.9 weight_decay=0.05", ""),
    ("sgd", "lr=0.1 momentum=0.9 nesterov=true", "lr=0.02 momentum=0.5"),
    ("adam", "lr=0.01 weight_decay=0.1", ""),
    ("adamw", "lr=0.01 weight_decay=0.1", "weight_decay=0"),
    ("rmsprop", "lr=0.002 momentum=0.9", ""),
    ("adagrad", "lr=0.1 lr_decay=0.02", ""),
]


def parse(options):
    """Lockstep's options as keyword arguments."""
    pairs = (pair.split("=", 1) for pair in options.split())
    words = {"true": "True", "false": "False"}
    values = {key: ast.literal_eval(words.get(value, value)) for key, value in pairs}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def momentum_of(group):
    """The momentum or beta1 of a parameter group, NaN where it has none."""
    return group["betas"][0] if "betas" in group else group.get("momentum", 0) or float("nan")


def set_momentum(group, value):
    if "betas" in group:
        group["betas"] = (value, group["betas"][1])
    else:
        group["momentum"] = value


def saved_states(optimizer, parameters):
    """The state arrays by name, laid end to end; zeros where a parameter has no such array."""
    names = {key for parameter in parameters for key, value in optimizer.state[parameter].items()
             if isinstance(value, torch.Tensor) and value.shape == parameter.shape}
    for name in sorted(names):
        yield name, torch.cat([optimizer.state[parameter].get(name, torch.zeros_like(parameter)) for parameter in parameters])


def run(out, case, changing, initial, gradients):
    kind, options, second = case
    cuts = [0, SPLIT, COUNT] if second else [0, COUNT]
    places = [slice(begin, end) for begin, end in zip(cuts, cuts[1:])]
    parameters = [torch.nn.Parameter(initial[place].clone()) for place in places]
    groups = [{"params": [parameter], **own} for parameter, own in zip(parameters, ({}, parse(second)))]
    optimizer = TYPES[kind](groups, foreach=False, **parse(options))
    if kind == "adagrad":  # whose constructor gives all groups the first one's accumulator
        for group_ in optimizer.param_groups:
            optimizer.state[group_["params"][0]]["sum"].fill_(group_["initial_accumulator_value"])
    factor = 0.97 ** np.arange(STEPS) if changing else np.ones(STEPS)
    rates = np.array([[group_["lr"] * f for group_ in optimizer.param_groups] for f in factor])
    momenta = np.array([[momentum_of(group_) * f for group_ in optimizer.param_groups] for f in factor])
    for name, value in (("type", kind), ("options", options), ("second", second), ("lr", rates.ravel()), ("momentum", momenta.ravel())):
        out.attrs[name] = value
    for step in range(STEPS):
        for index, group_ in enumerate(optimizer.param_groups):
            group_["lr"] = float(rates[step, index])
            if changing and not np.isnan(momenta[step, index]):
                set_momentum(group_, float(momenta[step, index]))
        for parameter, place in zip(parameters, places):
            parameter.grad = gradients[step, place].clone()
        optimizer.step()
        if step + 1 in SAVED:
            saved = group(out, f"step{step + 1}")
            put(saved, "param", torch.cat([parameter.detach() for parameter in parameters]))
            for name, value in saved_states(optimizer, parameters):
                put(saved, name, value)


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
        cases = [((kind, options, ""), False) for kind, options in CASES]
        cases += [(case, False) for case in GROUPED] + [(case, True) for case in CHANGING]
        file.attrs["cases"] = len(cases)
        file.attrs["split"] = SPLIT
        for index, (case, changing) in enumerate(cases):
            run(group(file, f"case{index}"), case, changing, initial, gradients)


main()
