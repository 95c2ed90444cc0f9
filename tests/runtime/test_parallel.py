"""Ranks of a process group: they decide together only where they work together."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import cachedit_yaml
from cachedit_yaml.runtime.parallel import is_parallelized
from tests import tiny

SETTINGS = {"max_warmup_steps": 1, "residual_diff_threshold": 0.9, "calibrator": None}


def work(rank: int, folder: str, parallelized: bool) -> None:
    """One rank: other prompts and, where the ranks are on their own, other numbers of steps."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        pipe = tiny.build("PixArtAlphaPipeline")
        if parallelized:
            pipe.transformer._is_parallelized = True
        assert is_parallelized(pipe.transformer) is parallelized
        noise = torch.randn(1, 7, 24, generator=torch.Generator().manual_seed(rank))
        with cachedit_yaml.enable(pipe, cache_config=SETTINGS) as handle:
            tiny.run(pipe, steps=6 if parallelized else 4 + 4 * rank, prompt_embeds=noise)
            (row,) = handle.stats().branches
        Path(folder, f"rank{rank}").write_text(
            repr((row.cached_steps, sorted(row.residual_diffs.values()))), encoding="utf-8"
        )
    finally:
        dist.destroy_process_group()


def results(tmp_path: Path, parallelized: bool) -> list[Any]:
    mp.spawn(work, (str(tmp_path), parallelized), nprocs=2, join=True)
    texts = [(tmp_path / f"rank{rank}").read_text(encoding="utf-8") for rank in range(2)]
    return [ast.literal_eval(text) for text in texts]


def test_ranks_that_share_a_forward_decide_alike(tmp_path: Path) -> None:
    one, other = results(tmp_path, True)
    assert one == other
    assert one[0]


def test_ranks_on_their_own_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """A process group with other numbers of steps for each rank: nobody hangs."""
    one, other = results(tmp_path, False)
    assert one[0]
    assert one != other


def test_an_engine_says_that_its_ranks_work_together() -> None:
    model = torch.nn.Linear(1, 1)
    assert is_parallelized(model) is False
    assert is_parallelized(model, together=True) is False  # a single process
