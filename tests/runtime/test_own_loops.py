"""Loops of one's own around a cached transformer: samplers, notions of a timestep, directions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cachedit_yaml.runtime.handle import Handle
from tests.runtime import models
from tests.runtime.models import ALWAYS, MASKED, SmallPipeline, adapter, small, start

#: What models are called with, of a noise level from 1 down to 0.
CONVENTIONS: dict[str, Callable[[float], Any]] = {
    "t": lambda level: 1000 * level,
    "an integer": lambda level: int(999 * level),
    "t/1000": lambda level: level,
    "1 - t/1000": lambda level: 1 - level,
    "sigma": lambda level: 14.6 * level**3,
    "log(sigma)": lambda level: math.log(max(level, 1e-6)) / 4,
    "[]": lambda level: torch.tensor(1000 * level),
    "[b]": lambda level: torch.full((1,), 1000 * level),
}


def euler(levels: list[float]) -> list[float]:
    """One call a step; ancestral samplers as well."""
    return levels


def heun(levels: list[float]) -> list[float]:
    """A second call a step at where it leads, but for the last, which leads to zero."""
    return [levels[0], *(level for level in levels[1:] for _ in range(2))]


def dpm_2(levels: list[float]) -> list[float]:
    """A second call a step in between (DPM-2, DPM++ 2S, DPM++ SDE)."""
    between = [math.sqrt(a * b) for a, b in itertools.pairwise(levels)]
    return sorted([*levels, *between], reverse=True)


def inverted(levels: list[float]) -> list[float]:
    """From a picture to its noise."""
    return levels[::-1]


#: Samplers, with the steps that they take of 7 and of 4 noise levels.
SAMPLERS = {euler: (7, 4), heun: (7, 4), dpm_2: (13, 7), inverted: (7, 4)}


@torch.no_grad()
def sample(model: Any, calls: list[float], convention: str, *, guided: bool) -> torch.Tensor:
    """A loop that has no scheduler."""
    latents = models.noise()
    for level in calls:
        timestep = CONVENTIONS[convention](level)
        outputs = [model(latents, timestep) for _ in range(1 + guided)]
        latents = latents - 0.05 * outputs[-1]
    return latents


def levels(count: int) -> list[float]:
    """Noise levels, ``count`` of them from 1 on."""
    return [1 - index / count for index in range(count)]


def steps(handle: Handle) -> list[int]:
    """How many steps each generation had."""
    return [max(len(b.executed_steps) for b in item.branches) for item in handle.history]


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers(sampler: Any, convention: str, guided: bool) -> None:
    """Each run is a generation; each is as if it were the only one."""
    model = small()
    counts = (7, 7, 4)
    results = []
    with start(model, adapter(), **ALWAYS) as handle:
        for count in counts:
            calls = sampler(levels(count))
            results.append(sample(model, calls, convention, guided=guided))
        longer, shorter = SAMPLERS[sampler]
        assert steps(handle) == [longer, longer, shorter]
        for item in handle.history:
            assert (
                item.branches[0].cached_steps
                == tuple(range(1, steps(handle)[0]))[: len(item.branches[0].executed_steps) - 1]
            )
    for count, result in zip(counts, results, strict=True):
        with start(model, adapter(), **ALWAYS):
            alone = sample(model, sampler(levels(count)), convention, guided=guided)
        assert torch.equal(result, alone)


def test_beside_the_pipeline() -> None:
    """The pipeline for which caching was enabled tells nothing of a loop of one's own."""
    pipe = SmallPipeline(small())
    calls = heun(levels(7))
    with start(pipe.transformer, adapter(), **ALWAYS):
        alone = sample(pipe.transformer, calls, "t/1000", guided=False)
    with start(pipe, adapter(), **ALWAYS) as handle:
        whole = pipe(5)
        for _ in range(2):
            assert torch.equal(sample(pipe.transformer, calls, "t/1000", guided=False), alone)
            assert torch.equal(pipe(5), whole)
        assert steps(handle) == [5, 7, 5, 7, 5]
        assert [item.num_steps for item in handle.history] == [5, None, 5, None, 5]
        sample(pipe.transformer, calls, "t/1000", guided=False)
        sample(pipe.transformer, calls, "t/1000", guided=False)
        assert steps(handle)[5:] == [7, 7]


@pytest.mark.parametrize("settings", [ALWAYS, MASKED])
def test_forwards_after_the_last_step(settings: dict[str, Any]) -> None:
    """One that is no loop is no generation, and is not cached; nor is a loop without its mask."""
    pipe = SmallPipeline(small())
    plain = pipe.transformer(models.noise(), 0.0)
    with start(pipe, adapter(), **settings) as handle, torch.no_grad():
        pipe(6)
        stats = handle.stats()
        assert torch.equal(pipe.transformer(models.noise(), 0.0), plain)
        assert handle.stats().branches == stats.branches
        assert len(handle.history) == 1
        if settings is MASKED:
            sample(pipe.transformer, levels(4), "t", guided=False)
            handle.refresh(num_inference_steps=12)
            sample(pipe.transformer, levels(12), "t", guided=False)
            assert handle.history[-1].num_steps == 12
            assert handle.history[-1].branches[0].cached_steps
        pipe(6)
        assert handle.stats().branches == stats.branches
