"""Loops of which one ends at the timestep that the next begins with: inversion, then sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    DPMSolverMultistepInverseScheduler,
    DPMSolverMultistepScheduler,
)

from tests.runtime import models
from tests.runtime.models import ALWAYS, DIM, MASKED, SmallPipeline, adapter, row, small, start
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


# --- with schedulers ---


class Inverting(SmallPipeline):
    """A pipeline with a scheduler for the way back."""

    def __init__(self, guided: bool, kind: type, inverse: type) -> None:
        super().__init__(small(), kind())
        self.inverse_scheduler = inverse()
        self.forwards = 1 + guided

    def predict(self, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """What the transformer says of latents ``[b x s x d]``."""
        return [self.transformer(latents, timestep) for _ in range(self.forwards)][-1]

    def go(self, scheduler: Any, latents: torch.Tensor) -> torch.Tensor:
        """Along a scheduler's timesteps, with its steps."""
        for timestep in scheduler.timesteps:
            update = self.predict(latents, timestep)
            latents = scheduler.step(update, timestep, latents)[0]
        return latents

    def by_hand(self, timesteps: Sequence[Any], latents: torch.Tensor) -> torch.Tensor:
        """Along some timesteps, without the scheduler."""
        for timestep in timesteps:
            latents = latents + 0.05 * self.predict(latents, timestep)
        return latents


def each_set_before_its_loop(pipe: Inverting) -> None:
    latents = models.noise()
    for scheduler in (pipe.inverse_scheduler, pipe.scheduler):
        scheduler.set_timesteps(7)
        latents = pipe.go(scheduler, latents)


def both_set_before(pipe: Inverting) -> None:
    pipe.inverse_scheduler.set_timesteps(7)
    pipe.scheduler.set_timesteps(7)
    pipe.go(pipe.scheduler, pipe.go(pipe.inverse_scheduler, models.noise()))


def by_functions(pipe: Inverting) -> None:
    both, predict = (pipe.inverse_scheduler, pipe.scheduler), pipe.predict
    for scheduler in both:
        scheduler.set_timesteps(7)
    latents = models.noise()
    for scheduler in both:
        for timestep in scheduler.timesteps:
            latents = scheduler.step(predict(latents, timestep), timestep, latents)[0]


def up_the_schedule_by_hand(pipe: Inverting) -> None:
    pipe.scheduler.set_timesteps(7)
    latents = pipe.by_hand([*pipe.scheduler.timesteps][::-1], models.noise())
    pipe.go(pipe.scheduler, latents)


def up_by_hand_and_set_again(pipe: Inverting) -> None:
    pipe.scheduler.set_timesteps(7)
    latents = pipe.by_hand(pipe.scheduler.timesteps.flip(0), models.noise())
    pipe.scheduler.set_timesteps(7)
    pipe.go(pipe.scheduler, latents)


def up_and_down_by_hand(pipe: Inverting) -> None:
    pipe.scheduler.set_timesteps(7)
    timesteps = [*pipe.scheduler.timesteps]
    pipe.by_hand(timesteps, pipe.by_hand(timesteps[::-1], models.noise()))


def down_then_up_by_hand(pipe: Inverting) -> None:
    pipe.scheduler.set_timesteps(7)
    latents = pipe.go(pipe.scheduler, models.noise())
    pipe.by_hand([*pipe.scheduler.timesteps][::-1], latents)


WAYS = (
    each_set_before_its_loop, both_set_before, by_functions, up_the_schedule_by_hand,
    up_by_hand_and_set_again, up_and_down_by_hand, down_then_up_by_hand,
)  # fmt: skip


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_scheduler_for_each_way(way: Any, guided: bool) -> None:
    """Which of two a loop steps, its steps tell; and whether it steps any."""
    pipe = Inverting(guided, DDIMScheduler, DDIMInverseScheduler)
    with start(pipe, adapter(), **ALWAYS) as handle, torch.no_grad():
        for _ in range(2):
            way(pipe)
        assert steps(handle) == [7, 7, 7, 7]
        for item in handle.history:
            assert len(item.branches) == 1 + guided
            assert not any("uncached" in text for text in item.warnings)
            # Two schedules that the scheduler leaves unshifted end with alike differences.
            assert all(len(branch.cached_steps) >= 4 for branch in item.branches)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_another_scheduler_for_each_way() -> None:
    pipe = Inverting(True, DPMSolverMultistepScheduler, DPMSolverMultistepInverseScheduler)
    with start(pipe, adapter(), **MASKED) as handle, torch.no_grad():
        both_set_before(pipe)
        both_set_before(pipe)
        assert [item.num_steps for item in handle.history] == [7, 7, 7, 7]
        cached = [item.branches[0].cached_steps for item in handle.history]
        assert cached[0] == cached[1] == cached[2] == cached[3]


class WithSound(Inverting):
    """A pipeline that steps two schedulers with each output."""

    def both(self, first: Any, second: Any) -> None:
        """A generation of seven steps."""
        for scheduler in (first, second):
            scheduler.set_timesteps(7)
        latents, sound = models.noise(), models.noise(1)
        for timestep in self.scheduler.timesteps:
            update = self.predict(latents, timestep)
            latents = first.step(update, timestep, latents)[0]
            sound = second.step(update, timestep, sound)[0]


@pytest.mark.parametrize("order", [1, -1])
def test_two_schedulers_for_one_loop(order: int) -> None:
    """Whichever is stepped first, each step counts once."""
    pipe = WithSound(False, DDIMScheduler, DDIMScheduler)
    with start(pipe, adapter(), **MASKED) as handle, torch.no_grad():
        for _ in range(2):
            pipe.both(*(pipe.scheduler, pipe.inverse_scheduler)[::order])
        assert [item.num_steps for item in handle.history] == [7, 7]
        assert steps(handle) == [7, 7]
        assert not any(item.warnings for item in handle.history)
        first, second = (item.branches[0].cached_steps for item in handle.history)
        assert first == second != ()


def test_one_step_at_the_end_of_a_schedule() -> None:
    """Without anybody who says where the loop begins: as little strength as there can be."""
    pipe = Inverting(False, DDIMScheduler, DDIMInverseScheduler)
    with start(pipe, adapter(), **ALWAYS) as handle, torch.no_grad():
        for _ in range(2):
            pipe.scheduler.set_timesteps(7)
            timestep = pipe.scheduler.timesteps[-1]
            latents = models.noise()
            pipe.scheduler.step(pipe.predict(latents, timestep), timestep, latents)
            assert handle.stats().num_steps == 1
            assert handle.stats().ended == "finished"


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
        # Latents of their own, from the first step on, may be those of two loops.
        served = tuple(range(2 if in_place else 1, 7))
        for branch in ("forward 1", "forward 2"):
            assert row(handle, branch=branch).cached_steps == served
