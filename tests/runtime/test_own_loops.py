"""Loops of one's own around a cached transformer: samplers, notions of a timestep, directions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cachedit_yaml.runtime.handle import Handle
from tests.runtime import models
from tests.runtime.models import (
    ALWAYS,
    MASKED,
    Small,
    SmallPipeline,
    adapter,
    row,
    small,
    start,
)

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


class Readings(TorchDispatchMode):
    """Counts the numbers that are read of tensors: on a GPU, each makes the host wait."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Count, and run."""
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


class Still(Small):
    """Reads no timestep itself."""

    def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        """``[b x s x d]`` to ``[b x s x d]``."""
        return super().forward(hidden_states)


@torch.no_grad()
def walk(model: Any, timesteps: list[torch.Tensor], forwards: int = 1) -> int:
    """A generation over some timesteps; how many numbers it read."""
    latents = models.noise()
    with Readings() as readings:
        for timestep in timesteps:
            for _ in range(forwards):
                latents = latents - 0.05 * model(latents, timestep)
    return readings.count


@pytest.mark.parametrize("batch", [None, 1, 2])
@pytest.mark.parametrize("order", [1, -1])
def test_elements_of_a_schedule_are_read_twice(order: int, batch: int | None) -> None:
    """Two of them tell that their neighbours differ; and what differs in memory is another step."""
    model = small(Still)
    mask = {"mask": [1, 1, 0, 0, 1, 0, 0], "policy": "static"}
    with start(model, adapter(), Fn_compute_blocks=1, max_warmup_steps=1, scm=mask) as handle:
        for forwards in (1, 2):
            schedule = torch.linspace(1000, 100, 7)
            timesteps = [*schedule] if batch is None else [t.expand(batch) for t in schedule]
            for turn in range(2):
                handle.refresh(num_inference_steps=7)
                assert walk(model, timesteps[::order], forwards) == (0 if turn else 2)
                stats = handle.history[-1]
                assert len(stats.branches) == forwards
                assert all(item.cached_steps == (2, 3, 5, 6) for item in stats.branches)


def test_generations_over_schedules() -> None:
    """Without anybody who tells: back to the front of a schedule, over another one, and back up."""
    model = small(Still)
    with start(model, adapter(), **ALWAYS) as handle:
        schedule = torch.linspace(1000, 100, 7)
        for timesteps in (schedule, schedule, torch.linspace(900, 50, 5), schedule.flip(0)):
            walk(model, [*timesteps])
        assert steps(handle) == [7, 7, 5, 7]


@pytest.mark.parametrize("interleaved", [False, True])
def test_elements_that_are_no_steps(interleaved: bool) -> None:
    """A timestep for each guidance branch, beside each other in memory."""
    model = small(Still)
    schedule = torch.linspace(1000, 100, 6)
    pairs = schedule.repeat_interleave(2).reshape(6, 2)
    with start(model, adapter(), **ALWAYS) as handle:
        for _ in range(2):
            walk(model, [t for pair in pairs for t in (pair if interleaved else pair.clone())])
        assert steps(handle) == [6, 6]
        assert all(len(item.branches) == 2 for item in handle.history)


def test_a_schedule_that_is_written_over() -> None:
    model = small(Still)
    schedule = torch.zeros(2)
    with start(model, adapter(), **ALWAYS) as handle, torch.no_grad():
        for step in range(5):
            schedule.fill_(1000 - 100 * step)
            model(models.noise(), schedule[step % 2])
        assert not row(handle).cached_steps or steps(handle) == [5]


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
            # After its second step a second call a step may have been another loop's first.
            served = [
                now for now in item.branches[0].executed_steps[1:] if sampler != heun or now != 2
            ]
            assert item.branches[0].cached_steps == tuple(served)
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


def test_a_scaled_timestep_is_not_taken_for_the_last_one_of_the_schedule() -> None:
    """With 4 steps the schedule ends with 1.0, which is also what ``t/1000`` begins with."""

    class Scaled(SmallPipeline):
        def __call__(self, steps: int) -> None:
            self.scheduler.set_timesteps(steps)
            for timestep in self.scheduler.timesteps:
                latents = torch.ones(1, 4, 8)
                self.transformer(latents, timestep=timestep.expand(1) / 1000)
                self.scheduler.step(latents, timestep, latents)

    pipe = Scaled(small())
    pipe.scheduler.set_timesteps(4)
    assert float(pipe.scheduler.timesteps[-1]) == 1.0
    with start(pipe, **MASKED) as handle:
        pipe(4)
        assert handle.stats().num_steps == 4
