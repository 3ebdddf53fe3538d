"""PyTorch's side of bench/checkpoint: times saving and loading a state as large as Lockstep's.

    torch_checkpoint.py FOLDER BYTES TURNS RANKS

One rank: torch.save and torch.load, and torch.distributed.checkpoint. Several: processes on gloo, each with its share of the state,
saved by torch.distributed.checkpoint into one folder. Every save ends with fsync, as Lockstep's does. Prints
{contender: {"save_s": [...], "restore_s": [...]}} as JSON.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp


def make_state(count, rank):
    """Tensors of 8 MiB, named for the rank whose share they are."""
    each = 2 << 20
    return {f"rank{rank}.{i}": torch.arange(each, dtype=torch.float32) for i in range(max(1, count // each))}


def save_plain(state, folder):
    folder.mkdir(exist_ok=True)
    with open(folder / "state.pt", "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def load_plain(state, folder):
    for name, tensor in torch.load(folder / "state.pt").items():
        state[name].copy_(tensor)


def save_distributed(state, folder):
    dcp.save(state, storage_writer=dcp.FileSystemWriter(folder, sync_files=True))


def load_distributed(state, folder):
    dcp.load(state, checkpoint_id=folder)


CONTENDERS = {"torch.save": (save_plain, load_plain), "torch.distributed.checkpoint": (save_distributed, load_distributed)}


def timed(act, state, folder, ranks):
    if ranks > 1:
        dist.barrier()
    begin = time.perf_counter()
    act(state, folder)
    if ranks > 1:
        dist.barrier()
    return time.perf_counter() - begin


def run_rank(rank, folder, count, turns, ranks, results):
    torch.set_num_threads(max(1, os.cpu_count() // ranks))
    if ranks > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29531")
        dist.init_process_group("gloo", rank=rank, world_size=ranks)
    state = make_state(count // ranks, rank)
    for name, (save, load) in CONTENDERS.items():
        if ranks > 1 and name == "torch.save":
            continue
        seconds = {"save_s": [], "restore_s": []}
        for turn in range(turns + 1):
            if rank == 0:
                shutil.rmtree(folder, ignore_errors=True)
            saved, restored = timed(save, state, folder, ranks), timed(load, state, folder, ranks)
            if turn > 0:  # the first one warms up
                seconds["save_s"].append(saved)
                seconds["restore_s"].append(restored)
        results[name] = seconds
    if ranks > 1:
        dist.destroy_process_group()
    if rank == 0:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    folder, count, turns, ranks = Path(sys.argv[1]) / "bench_checkpoint.torch", int(sys.argv[2]) // 4, int(sys.argv[3]), int(sys.argv[4])
    if ranks == 1:
        results = {}
        run_rank(0, folder, count, turns, 1, results)
    else:
        with mp.Manager() as manager:
            shared = manager.dict()
            mp.spawn(run_rank, args=(folder, count, turns, ranks, shared), nprocs=ranks)
            results = dict(shared)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
