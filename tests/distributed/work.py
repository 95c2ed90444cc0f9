"""Ranks of a process group, and what each of them does.

They are forked, so that none imports torch again. Several GPUs are not needed: gloo does the same
on a CPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import cachedit_yaml
from cachedit_yaml.probe.workers import can_fork, side_by_side
from tests import tiny

needs_ranks = pytest.mark.skipif(
    not can_fork() or not (dist.is_available() and dist.is_gloo_available()),
    reason="needs fork and gloo",
)

STEPS = 8
HITS = {"max_warmup_steps": 2, "max_continuous_cached_steps": -1}


def ranks(work: Callable[[], Any], count: int, folder: Path) -> list[Any]:
    """What some work returns in each rank of a group of so many.

    Args:
        work: what every rank does.
        count: how many there are.
        folder: an empty one, where they meet.
    """

    def join(rank: int) -> Any:
        os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{count}"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "CUDA_VISIBLE_DEVICES": ""}
        torch.set_num_threads(1)
        where = f"file://{folder}/meeting"
        dist.init_process_group("gloo", init_method=where, rank=rank, world_size=count)
        try:
            result = work()
            dist.barrier()
            return result
        finally:
            dist.destroy_process_group()

    return list(side_by_side(join, range(count), count))


def rows(handle: Any) -> dict[str, Any]:
    """The decisions and differences by block list and branch."""
    return {
        f"{row.transformer}.{row.blocks} [{row.branch}]": {
            "cached": list(row.cached_steps),
            "diffs": {str(step): value for step, value in row.residual_diffs.items()},
        }
        for row in handle.stats().branches
    }


def decide(marked: bool, threshold: float) -> dict[str, Any]:
    """Each rank denoises noise of its own, as the parts of a sequence differ."""
    pipe = tiny.build("PixArtAlphaPipeline")
    if marked:
        pipe.transformer._is_parallelized = True
    config = {**HITS, "residual_diff_threshold": threshold}
    with cachedit_yaml.enable(pipe, cache_config=config) as handle:
        seed = torch.Generator().manual_seed(100 + dist.get_rank())
        tiny.run(pipe, steps=STEPS, generator=seed)
        return rows(handle)


def between(found: dict[str, Any]) -> float:
    """A threshold between what two ranks saw at the same step."""
    (mine,) = (row["diffs"] for row in found.values())
    ranks: list[Any] = [None, None]
    dist.all_gather_object(ranks, mine)
    pairs = [sorted((ranks[0][step], ranks[1][step])) for step in mine]
    low, high = max(pairs, key=lambda pair: pair[1] - pair[0])
    return low + (high - low) * 0.25


def decisions() -> dict[str, Any]:
    """With a threshold between the ranks: each on its own, and as one."""
    threshold = between(decide(False, 1e-9))
    return {"unmarked": decide(False, threshold), "marked": decide(True, threshold)}


def ulysses(name: str, folder: Path) -> dict[str, Any]:
    """The sequence divided over the ranks by cache-dit, cached by us, beside one process."""
    path = folder / f"file-{dist.get_rank()}.yaml"
    path.write_text("parallelism_config: {ulysses_size: 2}\n", encoding="utf-8")
    cases = {
        "no hit": {"residual_diff_threshold": 0},
        "hits": {**HITS, "residual_diff_threshold": 0.9},
    }
    pipes = {case: tiny.build(name) for case in cases}
    # The ranks get equal parts of the text too.
    given = tiny.cases(name)["plain"](pipes["hits"])["prompt_embeds"]
    even = {"prompt_embeds": given[:, : given.shape[1] // 2 * 2]}
    found: dict[str, Any] = {}
    alone = {}
    # First of all, because cache-dit changes classes of diffusers for the whole process.
    for case, config in cases.items():
        with cachedit_yaml.enable(pipes[case], cache_config=config) as handle:
            alone[case] = tiny.run(pipes[case], steps=STEPS, **even)
            found[case] = {"alone": rows(handle)}
    for case, config in cases.items():
        with cachedit_yaml.enable(pipes[case], path, cache_config=config) as handle:
            result = tiny.run(pipes[case], steps=STEPS, **even)
            found[case]["together"] = rows(handle)
        error = (result - alone[case]).abs().max() / alone[case].abs().max()
        found[case]["error"] = float(error)
        # Enabled after cache-dit has divided it.
        with cachedit_yaml.enable(pipes[case], cache_config=config) as handle:
            result = tiny.run(pipes[case], steps=STEPS, **even)
            found[case]["finite"] = bool(result.isfinite().all())
            found[case]["after"] = rows(handle)
    return found
