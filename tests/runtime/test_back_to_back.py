"""Loops of which one ends at the timestep that the next begins with: inversion, then sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from tests.runtime import models
from tests.runtime.models import ALWAYS, DIM, adapter, row, small, start
from tests.runtime.requests_at_once import Conditioned
from tests.runtime.test_own_loops import (
    CONVENTIONS,
    SAMPLERS,
    Readings,
    Still,
    dpm_2,
    heun,
    inverted,
    levels,
    steps,
    walk,
)

PROMPTS = {
    name: torch.randn(2, DIM, generator=torch.Generator().manual_seed(seed))
    for seed, name in enumerate(("source", "target", "negative"))
}
#: Prompts of the steps of an inversion, and of the sampling after it.
CONDITIONS: dict[str, tuple[list[str], list[str]]] = {
    "the same prompt": (["source"], ["source"]),
    "another prompt": (["source"], ["target"]),
    "guidance in both": (["negative", "source"], ["negative", "target"]),
    "guidance begins": (["source"], ["negative", "target"]),
    "guidance ends": (["negative", "source"], ["source"]),
}


@torch.no_grad()
def loop(
    model: Any,
    timesteps: Sequence[Any],
    latents: torch.Tensor,
    prompts: Sequence[str] = (),
    into: Callable[[torch.Tensor], torch.Tensor] = lambda latents: latents,
) -> torch.Tensor:
    """From latents ``[b x s x d]`` to latents; ``into`` says what of them goes into a forward."""
    for timestep in timesteps:
        extra = [(PROMPTS[name],) for name in prompts] or [()]
        outputs = [model(into(latents), timestep, *item) for item in extra]
        latents = latents - 0.05 * outputs[-1]
    return latents


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("sampler", [item for item in SAMPLERS if item is not inverted])
def test_inversion_then_sampling(sampler: Any, condition: str) -> None:
    """Each is a generation of its own, and as if it were the only one."""
    down = sampler(levels(7))
    up = sampler(levels(7)[::-1]) if sampler is heun else down[::-1]
    count = 13 if sampler is dpm_2 else 7
    turns = list(zip((up, down, up, down), CONDITIONS[condition] * 2, strict=True))
    for convention in ("t", "t/1000", "[b]"):
        model, latents, results = small(Conditioned), models.noise(), [models.noise()]
        with start(model, adapter(), **ALWAYS) as handle:
            for calls, prompts in turns:
                timesteps = [CONVENTIONS[convention](level) for level in calls]
                latents = loop(model, timesteps, latents, prompts)
                results.append(latents)
            assert steps(handle) == [count] * 4
            assert all(
                len(item.branches) == len(prompts) * (2 if sampler is heun else 1)
                for item, (_, prompts) in zip(handle.history, turns, strict=True)
            )
        for index, (calls, prompts) in enumerate(turns):
            timesteps = [CONVENTIONS[convention](level) for level in calls]
            with start(model, adapter(), **ALWAYS):
                alone = loop(model, timesteps, results[index], prompts)
            assert torch.equal(alone, results[index + 1])


@pytest.mark.parametrize("forwards", [1, 2])
def test_stages_that_share_a_timestep(forwards: int) -> None:
    """The second goes on in the same direction, from where the first has come to."""
    model = small()
    with start(model, adapter(), **ALWAYS) as handle:
        for timesteps in ((900, 800, 700, 600, 500), (500, 400, 300)):
            walk(model, [torch.tensor(float(item)) for item in timesteps], forwards)
        assert steps(handle) == [5, 3]


def test_latents_that_are_written_over() -> None:
    model = small(Conditioned)
    latents = models.noise()
    with start(model, adapter(), **ALWAYS) as handle, torch.no_grad():
        for timesteps in (range(100, 800, 100), range(700, 0, -100)):
            for timestep in timesteps:
                latents -= 0.05 * model(latents, timestep, PROMPTS["source"])
        assert steps(handle) == [7, 7]


def test_nothing_more_is_read() -> None:
    """Of elements of a schedule two neighbours are read, there and back."""
    counts = []
    schedule = torch.linspace(1000, 100, 7)
    for timesteps in (schedule.tolist(), [*schedule]):
        model = small(Still)
        with start(model, adapter(), **ALWAYS) as handle, Readings() as readings:
            for order in (1, -1):
                loop(model, timesteps[::order], models.noise())
            assert steps(handle) == [7, 7]
        counts.append(readings.count)
    assert counts[1] - counts[0] == 2


# --- what is no other loop ---


def copied(latents: torch.Tensor) -> torch.Tensor:
    """Every forward gets a copy."""
    return latents.clone()


@pytest.mark.parametrize("into", [copied, lambda latents: latents])
@pytest.mark.parametrize("late", [2, 4, 6])
def test_guidance_that_joins_in(late: int, into: Any) -> None:
    """A third prompt, from a step on, at its front or its end."""
    for prompts in (["negative", "source", "target"], ["target", "negative", "source"]):
        model = small(Conditioned)
        usual = [name for name in prompts if name != "target"]
        with start(model, adapter(), **ALWAYS) as handle:
            latents = models.noise()
            for index, timestep in enumerate(range(700, 0, -100)):
                names = prompts if index >= late else usual
                latents = loop(model, [timestep], latents, names, into)
            assert steps(handle) == [7]
            assert sorted(len(item.executed_steps) for item in handle.stats().branches) == [
                7 - late, 7, 7
            ]  # fmt: skip


def test_skip_layer_guidance_that_joins_in() -> None:
    """The same prompt and the same latents once more."""
    model = small(Conditioned)
    with start(model, adapter(), **ALWAYS) as handle:
        latents = models.noise()
        for index, timestep in enumerate(range(700, 0, -100)):
            latents = loop(model, [timestep], latents, ["source"] * (1 + (index >= 4)))
        assert steps(handle) == [7]


def test_repeated_steps_of_a_generation_that_was_told() -> None:
    """Its steps are known: a step that is done twice is not the first of another loop."""
    model = small()
    with start(model, adapter(), **ALWAYS) as handle:
        handle.refresh(num_inference_steps=7)
        loop(model, [700, 600, 500, 400, 400, 300, 200, 100], models.noise())
        assert steps(handle) == [7]


# --- what stays the same from step to step ---


@pytest.mark.parametrize("in_place", [True, False])
def test_two_calls_a_step_on_latents_that_are_written_over(in_place: bool) -> None:
    """Memory that is written over tells no branch, though somebody holds it still."""
    model = small(Conditioned)
    latents, prompt = models.noise(), torch.zeros(2, DIM)
    with start(model, adapter(), **ALWAYS) as handle, torch.no_grad():
        for timestep in range(700, 0, -100):
            for name in ("negative", "source"):
                prompt.copy_(PROMPTS[name])
                update = 0.05 * model(latents, timestep, prompt)
                if in_place:
                    latents -= update
            if not in_place:
                latents = latents - update
        for branch in ("forward 1", "forward 2"):
            assert row(handle, branch=branch).cached_steps == (1, 2, 3, 4, 5, 6)
