"""Ranks on this machine: forked, because importing torch anew takes longer than any test."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def in_ranks(count: int, work: Callable[..., None], folder: Path, *arguments: Any) -> None:
    """Call ``work(rank, folder, *arguments)`` in that many processes of one group."""
    mp.start_processes(
        _rank, (count, work, folder, arguments), nprocs=count, join=True, start_method="fork"
    )


def _rank(rank: int, count: int, work: Callable[..., None], folder: Path, arguments: Any) -> None:
    sys.settrace(None)  # nobody gathers the coverage of this process
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=count)
    try:
        work(rank, folder, *arguments)
        dist.barrier()
    finally:
        dist.destroy_process_group()
