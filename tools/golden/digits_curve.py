"""Golden training curves: the data of examples/digits, 20 epochs, from Lockstep's own initial weights and in its own order
of samples. The test trains through the public interface and compares every epoch's losses.

Two networks. With relu and max_pool2d (that of examples/digits) rounding alone grows: a unit that is exactly constant over all
blank pixels of all images changes sides at once. The learning rates are small enough that PyTorch's float32 and float64 stay
together (attribute `rounding`). With silu and avg_pool2d nothing jumps, at a learning rate that trains to the end.
"""

import os

import h5py
import numpy as np
import torch
from torch import nn

from golden import create, group, put
from lockstep_random import initial, permutation

SEED, EPOCHS, BATCH = 1, 20, 64
DIGITS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "digits", "digits.h5")


RELU = """
    conv1:conv2d out_channels=16 kernel_size=3 padding=1
    relu
    conv2:conv2d out_channels=32 kernel_size=3 padding=1
    relu
    max_pool2d kernel_size=2
    flatten
    fc1:linear out_features=64
    relu
    fc2:linear out_features=10"""
SILU = RELU.replace("relu", "silu").replace("max_pool2d", "avg_pool2d")


def network(layers, dtype):
    activation, pool = (nn.ReLU, nn.MaxPool2d) if layers is RELU else (nn.SiLU, nn.AvgPool2d)
    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), activation(), nn.Conv2d(16, 32, 3, padding=1), activation(),
                        pool(2), nn.Flatten(), nn.Linear(512, 64), activation(), nn.Linear(64, 10))
    index = 0
    with torch.no_grad():
        for module in net:
            if not hasattr(module, "weight"):
                continue
            fan_in = module.weight[0].numel()
            for tensor in (module.weight, module.bias):
                tensor.copy_(torch.from_numpy(initial(SEED, index, tuple(tensor.shape), fan_in)))
                index += 1
    return net.to(dtype)


def train(layers, optimizer_of, scheduler_of, dtype):
    """Every epoch's training and validation loss, exact means over samples: float64 [EPOCHS, 2]."""
    with h5py.File(DIGITS) as file:
        def read(part):
            inputs = file[part + "/inputs"][...].astype(np.float32) * np.float32(0.0625)
            return torch.from_numpy(inputs).to(dtype), torch.from_numpy(file[part + "/targets"][...].astype(np.int64))
        x, t = read("train")
        val_x, val_t = read("validation")
    net = network(layers, dtype)
    optimizer = optimizer_of(net.parameters())
    scheduler = scheduler_of(optimizer)
    criterion = nn.CrossEntropyLoss()
    losses = np.zeros((EPOCHS, 2))
    for epoch in range(EPOCHS):
        order = torch.from_numpy(permutation(SEED, epoch, len(x)))
        for part in torch.split(order, BATCH):
            optimizer.zero_grad()
            loss = criterion(net(x[part]), t[part])
            loss.backward()
            optimizer.step()
            losses[epoch, 0] += loss.item() * len(part) / len(x)
        scheduler.step()
        with torch.no_grad():
            losses[epoch, 1] = criterion(net(val_x), val_t).item()
    return losses


def curve(file, name, layers, optimizer, optimizer_of):
    case = group(file, name)

    def scheduler_of(o):
        return torch.optim.lr_scheduler.StepLR(o, 10, 0.3)

    losses = train(layers, optimizer_of, scheduler_of, torch.float32)
    exact = train(layers, optimizer_of, scheduler_of, torch.float64)
    case.attrs["layers"] = "\n".join(line.strip() for line in layers.strip().splitlines())
    case.attrs["seed"], case.attrs["batch_size"] = SEED, BATCH
    case.attrs["optimizer"], case.attrs["schedule"] = optimizer, "step step_size=10 gamma=0.3"
    # How far PyTorch's own float32 is from float64: what rounding alone does to this curve.
    case.attrs["rounding"] = float(np.abs(losses - exact).max())
    put(case, "train_loss", losses[:, 0])
    put(case, "val_loss", losses[:, 1])
    print(name, losses[-1], "rounding", case.attrs["rounding"], flush=True)


def main():
    with create("digits_curve.h5", seed=SEED) as file:
        curve(file, "relu_sgd", RELU, "sgd lr=0.005 momentum=0.9 weight_decay=1e-4",
              lambda p: torch.optim.SGD(p, lr=0.005, momentum=0.9, weight_decay=1e-4))
        curve(file, "relu_adamw", RELU, "adamw lr=2e-4", lambda p: torch.optim.AdamW(p, lr=2e-4))
        curve(file, "silu_sgd", SILU, "sgd lr=0.05 momentum=0.9 weight_decay=1e-4",
              lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-4))
        curve(file, "silu_adamw", SILU, "adamw lr=3e-3", lambda p: torch.optim.AdamW(p, lr=3e-3))


if __name__ == "__main__":
    main()
