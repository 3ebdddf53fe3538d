"""Golden cases of whole graphs: how one case is computed and written.

A case is a PyTorch module and the same layers in Lockstep's words (parsed by tests/parity/graph_case.c):

    [name:]type [key=value ...]      a layer
    [name:]residual {                a container, its block ...
    } shortcut {                     ... and its shortcut
    }

Everything is computed in float64 from numbers that float32 can hold, so that what differs is Lockstep's own rounding.
"""

import torch
from torch import nn

from golden import float32, group, put


class Residual(nn.Module):
    def __init__(self, block, shortcut=None):
        super().__init__()
        self.block = block
        if shortcut is not None:
            self.shortcut = shortcut

    def forward(self, x):
        return self.block(x) + (self.shortcut(x) if hasattr(self, "shortcut") else x)


def randomize(module):
    """Parameters and running statistics away from their trivial initial values."""
    with torch.no_grad():
        for name, value in module.named_parameters():
            near_one = value.dim() == 1 and name.endswith("weight")
            value.copy_(float32(value + (0.3 * torch.randn_like(value) if near_one or value.dim() == 1 else 0)))
        for name, value in module.named_buffers():
            if name.endswith("running_mean"):
                value.copy_(float32(0.5 * torch.randn_like(value)))
            if name.endswith("running_var"):
                value.copy_(float32(0.5 + torch.rand_like(value)))


def put_buffers(parent, module):
    for name, value in module.named_buffers():
        if not name.endswith("num_batches_tracked"):
            put(parent, name, value)


def graph_case(file, name, layers, module, shape, batch, loss="mse", options="", criterion=None, forwards=1,
               train=True, x=None, targets=None):
    """One case: `forwards` forward passes in training, backward of the summed loss, a forward in evaluation.

    shape: of one sample. criterion(output, targets) is PyTorch's with reduction="sum". train False: evaluation alone.
    """
    case = group(file, name)
    case.attrs["layers"] = "\n".join(line.strip() for line in layers.strip().splitlines())
    case.attrs["loss"] = (loss + " " + options).strip()
    case.attrs["forwards"] = forwards
    case.attrs["train"] = int(train)

    module = module.double()
    randomize(module)
    x = float32(torch.randn(batch, *shape, dtype=torch.float64)) if x is None else x
    x.requires_grad_(True)
    put(case, "x", x)
    for part, values in (("param", module.named_parameters()), ("grad", [])):
        parent = group(case, part)
        for key, value in values:
            put(parent, key, value)
    put_buffers(group(case, "buffer"), module)
    if train:
        module.train()
        for _ in range(forwards):
            y = module(x)
        if targets is None:
            targets = float32(torch.randn_like(y))
        total = (criterion or nn.MSELoss(reduction="sum"))(y, targets)
        total.backward()
        put(case, "y", y)
        put(case, "targets", targets)
        put(case, "loss_sum", total)
        put(case, "dx", x.grad)
        for key, value in module.named_parameters():
            put(case["grad"], key, value.grad)
    put_buffers(group(case, "buffer_after"), module)
    module.eval()
    with torch.no_grad():
        put(case, "y_eval", module(x))
    return case
