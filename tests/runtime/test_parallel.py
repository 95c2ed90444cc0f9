"""Ranks of a process group that work on prompts of their own; see tests/distributed for others."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

import cachedit_yaml
from cachedit_yaml.api import start
from cachedit_yaml.compiler.parallel import ALL, Ranks, ranks_of
from tests import tiny
from tests.ranks import in_ranks

SETTINGS = {"max_warmup_steps": 1, "residual_diff_threshold": 0.9, "calibrator": None}


def work(rank: int, folder: Path) -> None:
    """One rank, with a prompt and a number of steps of its own."""
    pipe = tiny.build("PixArtAlphaPipeline")
    assert ranks_of(pipe.transformer) is None
    assert ranks_of(pipe.transformer, together=ALL) is ALL
    noise = torch.randn(1, 7, 24, generator=torch.Generator().manual_seed(rank))
    with cachedit_yaml.enable(pipe, cache_config=SETTINGS) as handle:
        tiny.run(pipe, steps=4 + 4 * rank, prompt_embeds=noise)
        (row,) = handle.stats().branches
    (folder / f"rank{rank}").write_text(
        repr((row.cached_steps, sorted(row.residual_diffs.values()))), encoding="utf-8"
    )


def test_ranks_on_their_own_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """A process group with other numbers of steps for each rank: nobody hangs."""
    in_ranks(2, work, tmp_path)
    texts = [(tmp_path / f"rank{rank}").read_text(encoding="utf-8") for rank in range(2)]
    one, other = map(ast.literal_eval, texts)
    assert one[0]
    assert one != other


def work_in_a_pair(rank: int, folder: Path) -> None:
    """One rank of a pair that divides a forward, and one that works alone."""
    groups = [dist.new_group([0, 1]), dist.new_group([2])]
    pipe = tiny.build("PixArtAlphaPipeline")
    plan = cachedit_yaml.compile_adapter("pixart", pipe, cache_config=SETTINGS)
    noise = torch.randn(1, 7, 24, generator=torch.Generator().manual_seed(rank))
    handle = start(replace(plan, together=Ranks(groups[rank // 2])), "loop")
    # They have other numbers of steps: nobody may wait for who works on another forward.
    tiny.run(pipe, steps=6 + 4 * (rank // 2), prompt_embeds=noise)
    (row,) = handle.stats().branches
    handle.disable()
    (folder / f"rank{rank}").write_text(
        repr((row.cached_steps, sorted(row.residual_diffs.values()))), encoding="utf-8"
    )


def test_a_pair_of_ranks_that_divides_a_forward(tmp_path: Path) -> None:
    in_ranks(3, work_in_a_pair, tmp_path)
    found = [
        ast.literal_eval((tmp_path / f"rank{rank}").read_text(encoding="utf-8"))
        for rank in range(3)
    ]
    assert found[0] == found[1]
    assert found[0] != found[2]
    assert found[0][0]


def test_an_engine_says_that_its_ranks_work_together() -> None:
    model = torch.nn.Linear(1, 1)
    assert ranks_of(model) is None
    assert ranks_of(model, together=ALL) is None  # a single process
