"""What the generators of golden files share: where the files lie, and who made them."""

import os

import h5py
import numpy as np
import torch

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "parity", "golden")


def create(name, seed):
    """A new golden file, open for writing. The same generator and versions give the same bytes."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    os.makedirs(FOLDER, exist_ok=True)
    file = h5py.File(os.path.join(FOLDER, name), "w", libver=("v110", "v110"))
    file.attrs["torch_version"] = str(torch.__version__)
    file.attrs["numpy_version"] = np.__version__
    file.attrs["seed"] = seed
    return file


def group(parent, name):
    """A group without time stamps."""
    properties = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    properties.set_obj_track_times(False)
    return h5py.Group(h5py.h5g.create(parent.id, name.encode(), gcpl=properties))


def put(parent, name, tensor):
    """Numbers as a contiguous float32 array (or int32 where they are integers)."""
    array = tensor.detach().numpy() if isinstance(tensor, torch.Tensor) else np.asarray(tensor)
    kind = np.int32 if array.dtype.kind in "iu" else np.float32
    parent.create_dataset(name, data=array.astype(kind))


def float32(tensor):
    """float64 numbers that float32 can hold, so that both sides start from the same ones."""
    return tensor.to(torch.float32).to(torch.float64)
