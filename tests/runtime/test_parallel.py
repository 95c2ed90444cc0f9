"""Ranks of a process group that work on prompts of their own; see tests/distributed for others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import cachedit_yaml
from cachedit_yaml.compiler.parallel import ALL, Ranks, ranks_of
from cachedit_yaml.runtime.execution import start
from cachedit_yaml.runtime.handle import Handle
from tests import tiny
from tests.distributed.work import needs_ranks, ranks

SETTINGS = {"max_warmup_steps": 1, "residual_diff_threshold": 0.9, "calibrator": None}


def denoise(pipe: Any, handle: Handle, steps: int) -> Any:
    """What was decided for a prompt of this rank's own: cached steps and differences."""
    noise = torch.randn(1, 7, 24, generator=torch.Generator().manual_seed(dist.get_rank()))
    tiny.run(pipe, steps=steps, prompt_embeds=noise)
    (row,) = handle.stats().branches
    return row.cached_steps, sorted(row.residual_diffs.values())


@needs_ranks
def test_ranks_on_their_own_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """A process group with other numbers of steps for each rank: nobody hangs."""

    def work() -> Any:
        pipe = tiny.build("PixArtAlphaPipeline")
        assert ranks_of(pipe.transformer) is None
        assert ranks_of(pipe.transformer, together=ALL) is ALL
        with cachedit_yaml.enable(pipe, cache_config=SETTINGS) as handle:
            return denoise(pipe, handle, 4 + 4 * dist.get_rank())

    one, other = ranks(work, 2, tmp_path)
    assert one[0]
    assert one != other


@needs_ranks
def test_a_pair_of_ranks_that_divides_a_forward(tmp_path: Path) -> None:
    """Beside one that works alone: nobody may wait for who works on another forward."""

    def work() -> Any:
        groups = [dist.new_group([0, 1]), dist.new_group([2])]
        group = dist.get_rank() // 2
        pipe = tiny.build("PixArtAlphaPipeline")
        plan = cachedit_yaml.compile_adapter("pixart", pipe, cache_config=SETTINGS)
        with start(replace(plan, together=Ranks(groups[group])), "loop") as handle:
            return denoise(pipe, handle, 6 + 4 * group)

    one, two, other = ranks(work, 3, tmp_path)
    assert one == two
    assert one != other
    assert one[0]


def test_an_engine_says_that_its_ranks_work_together() -> None:
    model = torch.nn.Linear(1, 1)
    assert ranks_of(model) is None
    assert ranks_of(model, together=ALL) is None  # a single process
