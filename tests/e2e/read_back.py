"""The half of `read-back` that the reference libraries do.

Without `outputs`: loads the network of small.yaml in PyTorch with the very lines that docs/checkpoint-format.md shows, compares its
outputs with Lockstep's, reads the exported files, and writes files to import. With `outputs`: compares what the imported ones gave.
"""
import re
import sys

import h5py
import numpy
import safetensors.torch
import torch

source = sys.argv[1]
DIGITS = f"{source}/examples/digits/digits.h5"


class Network(torch.nn.Module):
    """What small.yaml describes."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.fc = torch.nn.Linear(144, 10)

    def forward(self, x):
        return self.fc(torch.relu(self.norm(self.conv(x))).flatten(1))


def outputs_of(model):
    with h5py.File(DIGITS) as file:
        x = torch.from_numpy(file["validation/inputs"][()]).float() * 0.0625
    with torch.no_grad():
        return model.eval()(x).numpy()


def check_outputs(found, expected, tolerance):
    assert found.shape == expected.shape
    difference = numpy.abs(found - expected).max() / numpy.abs(expected).max()
    assert difference < tolerance, difference


def lockstep_outputs(path):
    with h5py.File(path) as file:
        return file["outputs"][()]


def checkpoint():
    with h5py.File("checkpoints/best.h5") as file:
        return {name: array[()] for name, array in file["model"].items()}


def check_state(state):
    """The checkpoint's arrays, their types and shapes, and no others."""
    expected = checkpoint()
    assert set(state) == set(expected) == set(Network().state_dict())
    for name, value in state.items():
        value = numpy.asarray(value)
        assert value.dtype == expected[name].dtype == Network().state_dict()[name].numpy().dtype, name
        assert value.shape == expected[name].shape, name
        assert (value == expected[name]).all(), name
    assert state["norm.num_batches_tracked"] == 46


def documented_lines():
    """The Python of the page, which runs where a user would run it, with a `model` and the files that it names."""
    with open(f"{source}/docs/checkpoint-format.md") as page:
        return re.findall(r"```python\n(.*?)```", page.read(), re.DOTALL)


def read():
    blocks = documented_lines()
    assert len(blocks) == 3
    for block in blocks:
        model = Network()
        with torch.no_grad():  # a model that the lines have to change, or to write as it is
            if "save_file" in block:
                model.load_state_dict({name: torch.as_tensor(value) for name, value in checkpoint().items()})
        exec(block, {"model": model})
        check_state({name: value.numpy() for name, value in model.state_dict().items()})
        # Rounding of other summation orders, far above float32's 6e-8 and far below any mistake.
        check_outputs(outputs_of(model), lockstep_outputs("expected.h5"), 1e-5)

    with safetensors.safe_open("best.safetensors", "np") as file:
        check_state({name: file.get_tensor(name) for name in file.keys()})
        metadata = file.metadata()
    assert metadata["format"] == "pt" and metadata["epoch"] == "2" and 0 < float(metadata["val_acc"]) <= 1
    with h5py.File("best.h5") as file:
        check_state({name: array[()] for name, array in file.items()})
        assert file.attrs["epoch"] == "2"

    halves = {name: torch.as_tensor(value) for name, value in checkpoint().items()}
    for name, value in halves.items():
        if value.is_floating_point():
            halves[name] = value.half() if "weight" in name else value.bfloat16() if "norm" in name else value.double()
    safetensors.torch.save_file(halves, "halves.safetensors")


def compare():
    check_outputs(lockstep_outputs("weights-outputs.h5"), lockstep_outputs("expected.h5"), 1e-7)
    # float16 weights have 11 bits, bfloat16 statistics 8: errors of some 2^-9 in each of a few factors.
    check_outputs(lockstep_outputs("halves-outputs.h5"), lockstep_outputs("expected.h5"), 2e-2)
    model = Network()
    state = {name: value.float() for name, value in safetensors.torch.load_file("halves.safetensors").items()}
    model.load_state_dict(state)
    check_outputs(lockstep_outputs("halves-outputs.h5"), outputs_of(model), 1e-5)


(compare if sys.argv[2:] == ["outputs"] else read)()
