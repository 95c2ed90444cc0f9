"""Steps of pipelines whose scheduler is not simply theirs: copies of it, another one, a cut one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from cachedit_yaml.errors import CompileError
from cachedit_yaml.runtime.handle import Handle
from cachedit_yaml.runtime.masks import preset_mask
from tests.runtime import models
from tests.runtime.models import ALWAYS, MASKED, NEVER, SmallPipeline, adapter, row, small, start


class Copies(SmallPipeline):
    """Every token has a copy of the scheduler, and waits `lag` steps for the one before it."""

    lag = 0
    names: tuple[str | None, ...] = (None,)

    @torch.no_grad()
    def __call__(self, steps: int = 6, **_: Any) -> torch.Tensor:
        latents = models.noise()
        self.scheduler.set_timesteps(steps)
        count = latents.shape[1]
        copies = [copy.deepcopy(self.scheduler) for _ in range(count)]
        self.num_timesteps = steps + self.lag * (count - 1)
        for tick in range(self.num_timesteps):
            places = [tick - self.lag * token for token in range(count)]
            inside = [min(max(place, 0), steps - 1) for place in places]
            timesteps = self.scheduler.timesteps[inside]
            parts = []
            for turn, name in enumerate(self.names):
                inputs = latents + 0.5 * turn
                if name is None:
                    parts.append(self.transformer(inputs, timesteps[None]))
                else:
                    with self.transformer.cache_context(name):
                        parts.append(self.transformer(inputs, timesteps[None]))
            update = sum(parts) / len(parts)
            for token, place in enumerate(places):
                if 0 <= place < steps:
                    out = copies[token].step(update[:, token], timesteps[token], latents[:, token])
                    latents[:, token] = out[0]
        return latents


class Named(models.Small):
    """Announces guidance branches, and is told a timestep for every token."""

    def cache_context(self, name: str) -> Any:
        import contextlib

        return contextlib.nullcontext(name)

    def forward(self, hidden_states: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        return super().forward(hidden_states, timestep.mean())


def check(handle: Handle, steps: int, branches: set[str]) -> None:
    found = handle.stats().branches
    assert {item.branch for item in found} == branches
    zeros = tuple(step for step, flag in enumerate(preset_mask("ultra", steps)) if not flag)
    for item in found:
        assert item.executed_steps == tuple(range(steps))
        assert item.cached_steps == zeros
    assert handle.stats().num_steps == steps
    assert not handle.stats().warnings


@pytest.mark.parametrize("names", [(None,), ("cond",), ("cond", "uncond")])
@pytest.mark.parametrize("lag", [0, 1, 2])
def test_copies_of_the_scheduler(lag: int, names: tuple[str | None, ...]) -> None:
    """Nobody steps the pipeline's own: the timesteps of the tokens tell, the pipeline how many."""
    pipe = Copies(small(Named))
    pipe.lag, pipe.names = lag, names
    plain = pipe(6)
    with start(pipe, **NEVER):
        assert torch.equal(pipe(6), plain)
    with start(pipe, **MASKED) as handle:
        for steps in (6, 9, 9):
            pipe(steps)
            check(handle, steps + 3 * lag, {name or "forward 1" for name in names})


class Prior(SmallPipeline):
    """A transformer whose steps are those of one scheduler, and then steps of another one."""

    def __init__(self, transformer: torch.nn.Module) -> None:
        super().__init__(transformer)
        self.prior_scheduler = FlowMatchEulerDiscreteScheduler()

    @torch.no_grad()
    def __call__(self, steps: int = 6, **_: Any) -> torch.Tensor:
        latents = models.noise()
        for scheduler, count, model in (
            (self.prior_scheduler, steps, self.transformer),
            (self.scheduler, 3, lambda latents, _: latents),
        ):
            scheduler.set_timesteps(count)
            for timestep in scheduler.timesteps:
                latents = scheduler.step(model(latents, timestep), timestep, latents)[0]
        return latents


def test_a_scheduler_of_another_name() -> None:
    pipe = Prior(small())
    plain = pipe(6)
    spec = adapter(scheduler="prior_scheduler")
    with start(pipe, spec, **NEVER):
        assert torch.equal(pipe(6), plain)
    with start(pipe, spec, **ALWAYS) as handle:
        pipe(6)
        pipe(6)
        assert handle.stats().num_steps == 6
        assert row(handle).executed_steps == tuple(range(6))
        assert row(handle).cached_steps == tuple(range(1, 6))
    assert "step" not in vars(pipe.prior_scheduler)


def test_a_scheduler_that_is_not_there() -> None:
    with pytest.raises(CompileError, match=r"no attribute 'prior_scheduller'.*'prior_scheduler'"):
        start(Prior(small()), adapter(scheduler="prior_scheduller"))


class Cut(SmallPipeline):
    """Loops over the last of the scheduler's timesteps and tells nobody."""

    @torch.no_grad()
    def __call__(self, steps: int = 6, **_: Any) -> torch.Tensor:
        latents = models.noise()
        self.scheduler.set_timesteps(steps)
        for timestep in self.scheduler.timesteps[steps // 3 :]:
            update = self.transformer(latents, timestep)
            latents = self.scheduler.step(update, timestep, latents)[0]
        return latents


def test_timesteps_cut_at_the_front() -> None:
    """The first timestep that the transformer sees tells where the loop begins."""
    pipe = Cut(small())
    with start(pipe, **MASKED) as handle:
        for steps in (9, 12, 9):
            pipe(steps)
            check(handle, steps - steps // 3, {"forward 1"})


class Stages:
    """A prior and a decoder, each with a scheduler of its own."""

    def __init__(self) -> None:
        self.prior, self.decoder = small(), small(seed=1)
        self.prior_scheduler = DDIMScheduler()
        self.scheduler = FlowMatchEulerDiscreteScheduler()

    @torch.no_grad()
    def __call__(self, prior_steps: int, steps: int) -> torch.Tensor:
        latents = models.noise()
        for scheduler, model, count in (
            (self.prior_scheduler, self.prior, prior_steps),
            (self.scheduler, self.decoder, steps),
        ):
            scheduler.set_timesteps(count)
            for t in scheduler.timesteps:
                latents = scheduler.step(model(latents, t), t, latents, return_dict=False)[0]
        return latents


def stages(**prior: Any) -> Any:
    """An adapter for it."""
    both = {"prior": {"blocks": {"blocks": "Pattern_3"}, **prior}}
    both["decoder"] = {"blocks": {"blocks": "Pattern_3"}}
    return adapter(transformers=both)


def test_a_scheduler_for_each_transformer() -> None:
    pipe = Stages()
    spec = stages(scheduler="prior_scheduler")
    plain = pipe(12, 20)
    with start(pipe, spec, **NEVER):
        assert torch.equal(pipe(12, 20), plain)
    with start(pipe, spec, **MASKED) as handle:
        for counts in ((12, 20), (8, 10), (12, 20)):
            pipe(*counts)
            for generation, count in zip(list(handle.history)[-2:], counts, strict=True):
                assert (generation.num_steps, generation.ended) == (count, "finished")
                (branch,) = generation.branches
                mask = preset_mask("ultra", count)
                assert branch.cached_steps == tuple(i for i in range(count) if not mask[i])
    assert not vars(pipe.prior_scheduler).get("step")


def test_a_scheduler_beneath_a_transformer_that_is_not_there() -> None:
    with pytest.raises(CompileError, match="'prior_schedular'; did you mean 'prior_scheduler'"):
        start(Stages(), stages(scheduler="prior_schedular"), **NEVER)
