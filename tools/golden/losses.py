"""Golden cases of every loss: value, gradient, weight and accuracy."""

import torch
from torch import nn

from golden import create, float32
from graphs import graph_case


def add(file, name, loss, options, criterion, logits, targets, correct=0, counted=0, weight=None):
    # flatten costs no operation here: what goes in is what the loss gets.
    case = graph_case(file, name, "flatten start_dim=1 end_dim=1", nn.Sequential(nn.Identity()),
                      list(logits.shape[1:]), len(logits), loss, options, criterion, x=logits, targets=targets)
    case.attrs["weight"] = float(logits.numel() if weight is None else weight)
    case.attrs["correct"] = float(correct)
    case.attrs["counted"] = float(counted)


def randn(*shape, scale=1.0):
    return float32(scale * torch.randn(*shape, dtype=torch.float64))


def classes(file, name, batch, count, options="", scale=1.0, ignored=(), ignore_index=-100, smoothing=0.0):
    logits, targets = randn(batch, count, scale=scale), torch.randint(count, (batch,))
    for i in ignored:
        targets[i] = ignore_index
    kept = targets != ignore_index
    criterion = nn.CrossEntropyLoss(reduction="sum", ignore_index=ignore_index, label_smoothing=smoothing)
    correct = (logits.argmax(1) == targets)[kept].sum().item()
    kept = kept.sum().item()
    add(file, name, "cross_entropy", options, criterion, logits, targets, correct, kept, weight=kept)


def values(file, name, loss, options, criterion, shape, scale=1.0):
    outputs, targets = randn(*shape, scale=scale), randn(*shape)
    targets.view(-1)[0] = outputs.view(-1)[0]  # the kink of l1
    add(file, name, loss, options, criterion, outputs, targets)


def yes_or_no(file, name, shape, scale=1.0, soft=False):
    logits = randn(*shape, scale=scale)
    targets = float32(torch.rand(shape, dtype=torch.float64))
    if not soft:
        targets = (targets > 0.5).double()
    correct = ((logits > 0) == (targets > 0.5)).sum().item()
    add(file, name, "bce_with_logits", "", nn.BCEWithLogitsLoss(reduction="sum"), logits, targets, correct,
        logits.numel())


def main():
    with create("losses.h5", seed=21) as file:
        classes(file, "cross_entropy", 7, 10)
        classes(file, "cross_entropy_two", 9, 2)
        classes(file, "cross_entropy_one", 1, 1)
        classes(file, "cross_entropy_many", 3, 1000)
        classes(file, "cross_entropy_far", 5, 11, scale=40.0)
        classes(file, "cross_entropy_smoothing", 7, 10, "label_smoothing=0.1", smoothing=0.1)
        classes(file, "cross_entropy_uniform", 7, 5, "label_smoothing=1", smoothing=1.0)
        classes(file, "cross_entropy_ignored", 7, 10, ignored=(0, 3, 6))
        classes(file, "cross_entropy_ignore_index", 9, 4, "ignore_index=2", ignored=(1,), ignore_index=2)
        classes(file, "cross_entropy_smoothing_ignored", 8, 6, "label_smoothing=0.3 ignore_index=-1", ignored=(2, 3),
                ignore_index=-1, smoothing=0.3)
        classes(file, "cross_entropy_all_ignored", 3, 6, ignored=(0, 1, 2))
        values(file, "mse", "mse", "", nn.MSELoss(reduction="sum"), (7, 5))
        values(file, "mse_image", "mse", "", nn.MSELoss(reduction="sum"), (3, 2, 3, 5))
        values(file, "l1", "l1", "", nn.L1Loss(reduction="sum"), (7, 5))
        values(file, "huber", "huber", "", nn.HuberLoss(reduction="sum"), (7, 5), 3.0)
        values(file, "huber_delta", "huber", "delta=0.3", nn.HuberLoss(reduction="sum", delta=0.3), (7, 13))
        yes_or_no(file, "bce_with_logits", (7, 5))
        yes_or_no(file, "bce_with_logits_one", (7, 1))
        yes_or_no(file, "bce_with_logits_soft", (7, 5), soft=True)
        yes_or_no(file, "bce_with_logits_far", (7, 5), scale=60.0)


if __name__ == "__main__":
    main()
