"""Truth of the clock: steps, branches and hand-over are those that the run really has."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    LTXEulerAncestralRFScheduler,
    UniPCMultistepScheduler,
)

from cachedit_yaml.errors import ConfigError
from cachedit_yaml.runtime.handle import Handle
from cachedit_yaml.runtime.masks import preset_mask
from tests import tiny
from tests.runtime import models
from tests.runtime.models import (
    ALWAYS,
    MASKED,
    NEVER,
    SmallPipeline,
    adapter,
    calls,
    row,
    small,
    start,
)

#: What this scheduler does to numpy is not our concern.
HEUN = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def zeros(steps: int) -> tuple[int, ...]:
    """The steps that the mask `MASKED` leaves to the cache."""
    return tuple(index for index, flag in enumerate(preset_mask("ultra", steps)) if not flag)


def check_steps(handle: Handle, steps: int, branches: set[str]) -> None:
    """The last generation executed `steps` steps in each branch, under a mask of that length."""
    assert handle.stats().num_steps == steps
    found = handle.stats().branches
    assert {item.branch for item in found} == branches
    for item in found:
        assert item.executed_steps == tuple(range(steps)), item
        assert item.cached_steps == zeros(steps), item


# Number of steps


def test_every_number_of_steps() -> None:
    pipe = SmallPipeline(small(count=4))
    plain = {steps: pipe(steps) for steps in (1, 2, 3, 17, 60)}
    with start(pipe, **MASKED) as handle:
        for steps in range(1, 61):
            cached = pipe(steps)
            check_steps(handle, steps, {"forward 1"})
            if steps <= 3:
                assert torch.equal(cached, plain[steps])
    with start(pipe, **NEVER):
        for steps, wanted in plain.items():
            assert torch.equal(pipe(steps), wanted)


@pytest.mark.parametrize("name", ["FluxPipeline", "DiTPipeline", "PixArtSigmaPipeline"])
def test_number_of_steps_of_pipelines(name: str) -> None:
    pipe = tiny.build(name)
    with start(pipe, None, **MASKED) as handle:
        for steps in (1, 2, 5, 7, 9, 18):
            tiny.run(pipe, steps=steps)
            check_steps(handle, steps, {"forward 1"} if name != "FluxPipeline" else {"cond"})


@pytest.mark.parametrize(
    "name",
    [
        "FluxImg2ImgPipeline",
        "StableDiffusion3Img2ImgPipeline",
        "QwenImageImg2ImgPipeline",
        "ZImageImg2ImgPipeline",
        # Cuts the timesteps without telling its scheduler where it begins.
        "WanVideoToVideoPipeline",
    ],
)
def test_strength(name: str) -> None:
    pipe = tiny.build(name)
    with calls(pipe.transformer) as seen, start(pipe, None, **MASKED) as handle:
        for steps, strength in ((8, 0.5), (9, 0.25), (6, 1.0), (8, 0.75)):
            seen.clear()
            tiny.run(pipe, steps=steps, strength=strength)
            executed = len(seen)
            assert abs(executed - steps * strength) < 1
            check_steps(handle, executed, {item.branch for item in handle.stats().branches})


def test_custom_sigmas() -> None:
    pipe = tiny.build("FluxPipeline")
    with calls(pipe.transformer) as seen, start(pipe, None, **MASKED) as handle:
        tiny.run(pipe, sigmas=[1.0, 0.9, 0.7, 0.4, 0.2])
        assert len(seen) == 5
        check_steps(handle, 5, {item.branch for item in handle.stats().branches})


class EndsBefore(SmallPipeline):
    """A pipeline that does not loop over the last timestep, where its schedule ends."""

    def __call__(self, steps: int = 6, **_: Any) -> torch.Tensor:
        latents = models.noise()
        self.scheduler.set_timesteps(steps)
        self.scheduler.set_begin_index(self.begin)
        timesteps = self.scheduler.timesteps[self.begin : -1]
        self.num_timesteps = len(timesteps)
        for timestep in timesteps:
            output = self.transformer(latents, timestep)
            latents = self.scheduler.step(output, timestep, latents)[0]
        return latents

    begin = 0


@pytest.mark.parametrize("begin", [0, 3])
def test_the_last_timestep_is_not_looped_over(begin: int) -> None:
    pipe = EndsBefore(small(count=4))
    pipe.begin = begin
    plain = pipe(13)
    with start(pipe, **MASKED) as handle:
        pipe(13)
        check_steps(handle, 12 - begin, {"forward 1"})
        pipe(13)
        check_steps(handle, 12 - begin, {"forward 1"})
    assert torch.equal(pipe(13), plain)


class CutsSilently(SmallPipeline):
    """It begins within the schedule, and only the scheduler's steps tell where (aMUSEd)."""

    def __call__(self, steps: int = 6, **_: Any) -> torch.Tensor:
        latents = models.noise()
        self.scheduler.set_timesteps(steps)
        for index in range(steps // 4, steps):
            timestep = self.scheduler.timesteps[index]
            output = self.transformer(latents)
            latents = self.scheduler.step(
                model_output=output, timestep=timestep, sample=latents
            ).prev_sample
        return latents


def test_a_cut_that_only_the_steps_tell() -> None:
    pipe = CutsSilently(small(count=4), DDIMScheduler())
    plain = pipe(12)
    with start(pipe, adapter(guidance="fused"), **MASKED) as handle:
        for _ in range(2):
            pipe(12)
            check_steps(handle, 9, {"forward 1"})
    assert torch.equal(pipe(12), plain)


class Combined:
    """A pipeline whose transformer runs in a pipeline that it holds, with that one's scheduler."""

    def __init__(self) -> None:
        self.prior_pipe = EndsBefore(small(count=4))
        self.prior_pipe.begin = 0
        self.transformer = self.prior_pipe.transformer
        self.scheduler = FlowMatchEulerDiscreteScheduler()

    def __call__(self, steps: int) -> torch.Tensor:
        latents = self.prior_pipe(steps + 1)
        self.scheduler.set_timesteps(3)
        return latents


def test_the_pipeline_that_holds_the_scheduler_loops() -> None:
    pipe = Combined()
    with start(pipe, adapter(scheduler="prior_pipe.scheduler"), **MASKED) as handle:
        for _ in range(2):
            pipe(12)
            check_steps(handle, 12, {"forward 1"})


def test_custom_timesteps() -> None:
    pipe = tiny.build("PixArtAlphaPipeline", scheduler=DPMSolverMultistepScheduler())
    with calls(pipe.transformer) as seen, start(pipe, None, **MASKED) as handle:
        tiny.run(pipe, timesteps=[999, 850, 600, 420, 300, 150, 20], num_inference_steps=None)
        assert len(seen) == 7
        check_steps(handle, 7, {"forward 1"})


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_order_two(steps: int) -> None:
    """Two forwards with one timestep are two executed steps, not guidance."""
    pipe = SmallPipeline(small(), FlowMatchHeunDiscreteScheduler())
    plain = pipe(steps)
    with start(pipe, **MASKED) as handle:
        pipe(steps)
        check_steps(handle, 2 * steps - 1, {"forward 1"})
    with start(pipe, **NEVER) as handle:
        assert torch.equal(pipe(steps), plain)


@HEUN
def test_order_two_with_guidance() -> None:
    pipe = SmallPipeline(small(), HeunDiscreteScheduler())
    with start(pipe, **MASKED) as handle:
        pipe(4, forwards=lambda step: 2)
        check_steps(handle, 7, {"forward 1", "forward 2"})


def test_order_two_of_a_pipeline() -> None:
    pipe = tiny.build("StableDiffusion3Pipeline", scheduler=FlowMatchHeunDiscreteScheduler())
    plain = tiny.run(pipe, steps=4)
    with start(pipe, None, **MASKED) as handle:
        tiny.run(pipe, steps=4)
        check_steps(handle, 7, {"forward 1"})
    with start(pipe, None, **NEVER):
        assert torch.equal(tiny.run(pipe, steps=4), plain)


# Guidance


def test_guidance_of_a_pipeline() -> None:
    """On, off, on: each request has its own branches, and equals that of a fresh start."""
    pipe = tiny.build("QwenImagePipeline")
    fresh = {}
    for case in ("plain", "guided"):
        with start(pipe, None, **ALWAYS, max_continuous_cached_steps=2):
            fresh[case] = tiny.run(pipe, case, steps=7)
    with start(pipe, None, **ALWAYS, max_continuous_cached_steps=2) as handle:
        for case in ("guided", "plain", "guided", "guided", "plain"):
            assert torch.equal(tiny.run(pipe, case, steps=7), fresh[case])
            branches = {"cond", "uncond"} if case == "guided" else {"cond"}
            found = handle.stats().branches
            assert {item.branch for item in found} == branches
            assert all(item.executed_steps == tuple(range(7)) for item in found)
            assert all(item.cached_steps for item in found)


def test_guidance_of_flux() -> None:
    """True guidance of FLUX: two forwards a step where the registry says one."""
    pipe = tiny.build("FluxPipeline")
    with start(pipe, None, **MASKED) as handle:
        tiny.run(pipe, "guided", steps=8)
        assert len(handle.stats().branches) == 4
        for item in handle.stats().branches:
            assert item.executed_steps == tuple(range(8))
            assert item.cached_steps == zeros(8)


def interval(first: int, last: int) -> Callable[[int], int]:
    """Two forwards in the steps from `first` to `last`, one in the others."""
    return lambda step: 2 if first <= step <= last else 1


@pytest.mark.parametrize(("first", "last"), [(0, 3), (2, 6), (5, 9), (0, 9), (4, 4)])
def test_guidance_on_an_interval(first: int, last: int) -> None:
    """Each branch is cached as if a transformer of its own ran it."""
    pipe = SmallPipeline(small())
    plain = pipe(10, forwards=interval(first, last))
    apart = TwoTransformers(pipe.transformer, copy.deepcopy(pipe.transformer))
    with start(apart, two_transformers(), **ALWAYS, max_continuous_cached_steps=2) as handle:
        wanted = apart(10, forwards=interval(first, last))
        assert sum(len(item.cached_steps) for item in handle.stats().branches) > 2
    with start(pipe, **ALWAYS, max_continuous_cached_steps=2) as handle:
        assert torch.equal(pipe(10, forwards=interval(first, last)), wanted)
        assert row(handle).executed_steps == tuple(range(10))
        guided = row(handle, branch="forward 2")
        assert guided.executed_steps == tuple(range(first, last + 1))
        assert not torch.equal(wanted, plain)
    with start(pipe, **NEVER):
        assert torch.equal(pipe(10, forwards=interval(first, last)), plain)


class TwoTransformers(SmallPipeline):
    """Runs the second forward of a step with another transformer."""

    def __init__(self, first: torch.nn.Module, second: torch.nn.Module) -> None:
        super().__init__(first)
        self.transformer_2 = second

    def forward_at(self, step: int, turn: int) -> Any:
        return self.transformer_2 if turn else self.transformer


def two_transformers(**more: Any) -> Any:
    """An adapter for two transformers."""
    lists = {"blocks": {"blocks": "Pattern_3"}}
    return adapter(transformers={"transformer": lists, "transformer_2": lists}, **more)


def test_guidance_that_a_callback_ends() -> None:
    pipe = tiny.build("WanPipeline")

    def run() -> torch.Tensor:
        def callback(pipe: Any, step: int, timestep: Any, kwargs: Any) -> Any:
            if step == 3:
                pipe._guidance_scale = 1.0
            return kwargs

        return tiny.run(pipe, "guided", steps=8, callback_on_step_end=callback)

    plain = run()
    with start(pipe, None, **NEVER):
        assert torch.equal(run(), plain)
    with start(pipe, None, **ALWAYS) as handle:
        run()
        assert row(handle, branch="cond").executed_steps == tuple(range(8))
        assert row(handle, branch="uncond").executed_steps == (0, 1, 2, 3)


def test_batch_that_changes_within_a_generation() -> None:
    """Z-Image doubles its batch for guidance in the first steps only."""
    pipe = tiny.build("ZImagePipeline")
    plain = tiny.run(pipe, "guided_truncated", steps=8)
    with start(pipe, None, **NEVER):
        assert torch.equal(tiny.run(pipe, "guided_truncated", steps=8), plain)
    with start(pipe, None, **MASKED) as handle:
        result = tiny.run(pipe, "guided_truncated", steps=8)
        assert result.isfinite().all()
        assert handle.stats().num_steps == 8


def test_skip_layer_guidance() -> None:
    pipe = tiny.build("StableDiffusion3Pipeline")
    plain = tiny.run(pipe, "skip_layers", steps=8)
    with start(pipe, None, **NEVER):
        assert torch.equal(tiny.run(pipe, "skip_layers", steps=8), plain)
    with start(pipe, None, **MASKED) as handle:
        tiny.run(pipe, "skip_layers", steps=8)
        main = row(handle, "transformer_blocks")
        skipping = row(handle, "transformer_blocks", "forward 2")
        assert main.executed_steps == tuple(range(8))
        assert main.cached_steps == zeros(8)
        assert skipping.executed_steps == tuple(range(1, 8))
        # Its first forward has nothing to serve.
        assert skipping.cached_steps == tuple(step for step in zeros(8) if step > 1)
        assert not handle.stats().warnings


# Two transformers


@pytest.mark.parametrize("shift", [1.0, 5.0, 12.0])
def test_wan_split(shift: float) -> None:
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    for ratio, steps in ((0.875, 9), (0.9, 16), (0.5, 5), (0.417, 12)):
        pipe = tiny.build("WanPipeline", two=True, boundary_ratio=ratio, scheduler=scheduler)
        with calls(pipe.transformer, pipe.transformer_2) as seen:
            handle = start(pipe, None, **MASKED)
            tiny.run(pipe, "guided", steps=steps)
            check_shares(handle, pipe, seen, forwards=2)
            handle.disable()


def test_wan_split_after_the_scheduler_is_replaced() -> None:
    pipe = tiny.build("WanPipeline", two=True, boundary_ratio=0.7)
    with calls(pipe.transformer, pipe.transformer_2) as seen:
        handle = start(pipe, None, **MASKED)
        shares = []
        for scheduler in (
            pipe.scheduler,
            FlowMatchEulerDiscreteScheduler(shift=8.0),
            UniPCMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0
            ),
            FlowMatchEulerDiscreteScheduler(num_train_timesteps=500, shift=2.0),
        ):
            pipe.scheduler = scheduler
            seen.clear()
            tiny.run(pipe, steps=12)
            shares.append(check_shares(handle, pipe, seen))
        handle.disable()
    assert len(set(shares)) == 4


@pytest.mark.parametrize(("ratio", "share"), [(0.0, (6, 0)), (1.1, (0, 6)), (None, (6, 0))])
def test_wan_without_a_boundary(ratio: float | None, share: tuple[int, int]) -> None:
    pipe = tiny.build("WanPipeline", two=True, boundary_ratio=ratio)
    with calls(pipe.transformer, pipe.transformer_2) as seen:
        handle = start(pipe, None, **MASKED)
        tiny.run(pipe, steps=6)
        assert check_shares(handle, pipe, seen) == share
        assert not any("ran no cached forward" in text for text in handle.stats().warnings)
        handle.disable()


@pytest.mark.parametrize("variant", ["high_only", "low_only"])
def test_wan_with_one_of_two(variant: str) -> None:
    pipe = tiny.build("WanPipeline", **{variant: True})
    plain = tiny.run(pipe, "guided", steps=6)
    with start(pipe, None, **NEVER):
        assert torch.equal(tiny.run(pipe, "guided", steps=6), plain)
    with start(pipe, None, **MASKED) as handle:
        tiny.run(pipe, "guided", steps=6)
        check_steps(handle, 6, {"cond", "uncond"})


def check_shares(
    handle: Handle, pipe: Any, seen: list[torch.nn.Module], forwards: int = 1
) -> tuple[int, ...]:
    """Each transformer executes what it should, under a mask of just that length."""
    shares = []
    for name in ("transformer", "transformer_2"):
        share, odd = divmod(seen.count(getattr(pipe, name)), forwards)
        assert not odd
        shares.append(share)
        found = models.rows(handle, name)
        assert len(found) == (forwards if share else 0)
        for item in found.values():
            assert item.executed_steps == tuple(range(share))
            assert item.cached_steps == zeros(share)
    assert sum(shares) == handle.stats().num_steps
    if all(zeros(share) for share in shares):
        assert not handle.stats().warnings
    return tuple(shares)


@pytest.mark.parametrize(
    ("split", "share"),
    [
        ({"fraction": {"transformer": 0.4, "transformer_2": 0.6}}, (4, 6)),
        ({"fraction": {"transformer_2": 0.25, "transformer": 0.75}}, (8, 2)),
        ({"count": {"transformer": 3, "transformer_2": -1}}, (3, 7)),
        ({"count": {"transformer": -1, "transformer_2": 4}}, (6, 4)),
        ({"count": {"transformer": 20, "transformer_2": -1}}, (10, 0)),
    ],
)
def test_split_by_shares(split: dict[str, Any], share: tuple[int, int]) -> None:
    pipe = HandOver(small(), small(seed=1), share)
    plain = pipe(10)
    with start(pipe, two_transformers(step_split=split), **MASKED) as handle:
        pipe(10)
        for name, steps in zip(("transformer", "transformer_2"), share, strict=True):
            found = models.rows(handle, name)
            assert bool(found) == bool(steps)
            for item in found.values():
                assert item.executed_steps == tuple(range(steps))
                assert item.cached_steps == zeros(steps)
    with start(pipe, two_transformers(step_split=split), **NEVER):
        assert torch.equal(pipe(10), plain)


class HandOver(TwoTransformers):
    """Hands over from one transformer to the other after a number of steps."""

    def __init__(self, first: Any, second: Any, share: tuple[int, int]) -> None:
        super().__init__(first, second)
        self.share = share

    def forward_at(self, step: int, turn: int) -> Any:
        if self.share == (8, 2):  # The second one begins.
            return self.transformer_2 if step < 2 else self.transformer
        return self.transformer if step < self.share[0] else self.transformer_2


def test_a_split_that_is_not_what_the_pipeline_does() -> None:
    """More steps than its share: those run uncached and are said, no mask is overrun."""
    pipe = HandOver(small(), small(seed=1), (7, 3))
    split = {"count": {"transformer": 5, "transformer_2": -1}}
    with start(pipe, two_transformers(step_split=split), **MASKED) as handle:
        pipe(10)
        assert models.rows(handle)["blocks [forward 1]"].executed_steps == tuple(range(5))
        assert any(
            "more steps than the adapter's step_split" in text for text in handle.stats().warnings
        )


def test_both_transformers_in_every_step() -> None:
    pipe = TwoTransformers(small(), small(seed=1))
    with start(pipe, two_transformers(), **MASKED) as handle:
        pipe(9, forwards=lambda step: 2)
        check_steps(handle, 9, {"forward 1"})
        assert len(handle.stats().branches) == 2


# From one generation to the next


@pytest.mark.parametrize(
    ("name", "case"),
    [("FluxPipeline", "guided"), ("WanPipeline", "plain"), ("DiTPipeline", "plain")],
)
def test_three_in_a_row(name: str, case: str) -> None:
    pipe = tiny.build(name, **({"two": True} if name == "WanPipeline" else {}))
    settings = {
        **ALWAYS,
        "max_warmup_steps": 2,
        "max_continuous_cached_steps": -1,
        "calibrator": "taylorseer",
    }
    with start(pipe, None, **settings) as handle:
        results, cached = [], []
        for _ in range(3):
            results.append(tiny.run(pipe, case, steps=9))
            found = handle.stats().branches
            assert all(step >= 2 for item in found for step in item.cached_steps)
            cached.append([item.cached_steps for item in found])
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    assert cached[0] == cached[1] == cached[2]


def test_other_steps_and_prompts_in_between() -> None:
    pipe = SmallPipeline(small())
    with start(pipe, **ALWAYS):
        wanted = pipe(9, seed=1)
    with start(pipe, **ALWAYS):
        for steps in (9, 4, 21, 1):
            pipe(steps, seed=steps)
        assert torch.equal(pipe(9, seed=1), wanted)


def test_set_timesteps_more_than_once() -> None:
    pipe = SmallPipeline(small())
    with start(pipe, **ALWAYS) as handle:
        wanted = pipe(6)
        stats = row(handle)
        # Announced and never run, with another number of steps.
        pipe.scheduler.set_timesteps(50)
        assert row(handle) == stats
        assert torch.equal(pipe(6), wanted)
        assert handle.stats().num_steps == 6
        assert row(handle) == stats


class Terminal(SmallPipeline):
    """Walks a schedule that holds noise level zero but for it, as the refiners of LTX-2 do."""

    def __call__(self, steps: int = 6, **_: Any) -> torch.Tensor:
        latents = models.noise(0)
        sigmas = [1 - step / steps for step in range(steps)]
        self.scheduler.set_timesteps(sigmas=[*sigmas, 0.0])
        for timestep in self.scheduler.timesteps[:-1]:
            latents = self.step(self.transformer(latents, timestep), timestep, latents)
        return latents


@torch.no_grad()
def test_a_schedule_with_noise_level_zero() -> None:
    pipe = Terminal(small(), LTXEulerAncestralRFScheduler(eta=0.0))
    with start(pipe, **MASKED) as handle:
        pipe(28)
        check_steps(handle, 28, {"forward 1"})
        assert not handle.stats().warnings


class SteppedTwice(SmallPipeline):
    """Has its scheduler do each step twice, as the Cosmos pipelines do."""

    def step(self, update: torch.Tensor, timestep: Any, latents: torch.Tensor) -> torch.Tensor:
        super().step(update, timestep, latents)
        self.scheduler._step_index -= 1
        return super().step(update, timestep, latents)


@pytest.mark.parametrize("forwards", [1, 2])
def test_a_step_that_is_done_twice(forwards: int) -> None:
    pipe = SteppedTwice(small())
    with start(pipe, **MASKED) as handle:
        pipe(28, forwards=lambda step: forwards)
    check_steps(handle, 28, {f"forward {turn + 1}" for turn in range(forwards)})


def test_forwards_outside_of_a_generation() -> None:
    """After the last step, and before the first: never served from another generation."""
    pipe = SmallPipeline(small())
    other = models.noise(3)
    wanted = pipe.transformer(other, 900)
    with start(pipe, **ALWAYS) as handle:
        assert torch.equal(pipe.transformer(other, 900), wanted)
        generated = pipe(6)
        cached = row(handle).cached_steps
        assert torch.equal(pipe.transformer(other, 900), wanted)
        assert torch.equal(pipe(6), generated)
        assert row(handle).cached_steps == cached == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("execution", ["loop", "native"])
def test_forwards_before_the_first_generation_with_a_mask(execution: str) -> None:
    """A pipeline may encode pictures with its transformer before it sets the timesteps."""
    pipe = SmallPipeline(small(count=4))
    other = models.noise(3)
    wanted = [pipe.transformer(other, 0) for _ in range(2)]
    with start(pipe, execution=execution, **MASKED) as handle:
        for _ in range(2):
            for output in wanted:
                assert torch.equal(pipe.transformer(other, 0), output)
            pipe(6)
            check_steps(handle, 6, {"forward 1" if execution == "loop" else "main"})
        pipe = SmallPipeline(small(count=4))
    with start(pipe, **MASKED):
        pipe.transformer(other, 900)
        # Where no scheduler tells even after a step, it is an error as ever.
        with pytest.raises(ConfigError, match="needs the number of steps"):
            pipe.transformer(other, 800)


@HEUN
def test_scheduler_replaced() -> None:
    pipe = tiny.build("PixArtAlphaPipeline")
    old = pipe.scheduler
    with start(pipe, None, **MASKED) as handle:
        for scheduler in (
            DPMSolverMultistepScheduler.from_config(old.config),
            EulerDiscreteScheduler.from_config(old.config),
            HeunDiscreteScheduler.from_config(old.config),
            DDIMScheduler.from_config(old.config),
            old,
        ):
            pipe.scheduler = scheduler
            executed = 9 if isinstance(scheduler, HeunDiscreteScheduler) else 5
            for _ in range(2):
                tiny.run(pipe, steps=5)
                check_steps(handle, executed, {"forward 1"})
        pipe.scheduler = last = DDIMScheduler.from_config(old.config)
        tiny.run(pipe, steps=5)
        # The earlier ones may serve other pipelines.
        assert "step" in vars(last)
        assert "step" in vars(old)
    for scheduler in (old, last):
        assert not {"step", "set_timesteps"} & vars(scheduler).keys()


def test_scheduler_copied() -> None:
    """Some pipelines copy the scheduler for another kind of latents: the copy is not the clock."""
    pipe = SmallPipeline(small())
    copies = []

    def use_a_copy(step: int) -> None:
        other = copy.deepcopy(pipe.scheduler)
        other.set_timesteps(7)
        other.step(models.noise(1), other.timesteps[0], models.noise(2))
        copies.append(other)

    with start(pipe, **MASKED) as handle:
        wanted = pipe(9)
        assert torch.equal(pipe(9, after_step=use_a_copy), wanted)
        check_steps(handle, 9, {"forward 1"})
        assert len(pipe.scheduler.timesteps) == 9
    assert all(len(item.timesteps) == 7 and item.step_index == 1 for item in copies)


def test_two_pipelines_of_one_class() -> None:
    """One generates in the middle of the other's generation."""
    one, other = (tiny.build("FluxPipeline", seed=seed) for seed in (0, 1))
    wanted = []
    for pipe in (one, other):
        with start(pipe, None, **MASKED):
            wanted.append(tiny.run(pipe, steps=9))
    inner: list[torch.Tensor] = []

    def callback(pipe: Any, step: int, timestep: Any, kwargs: Any) -> Any:
        if step == 4:
            inner.append(tiny.run(other, steps=9))
        return kwargs

    with start(one, None, **MASKED) as first, start(other, None, **MASKED) as second:
        outer = tiny.run(one, steps=9, callback_on_step_end=callback)
        for handle in (first, second):
            assert handle.stats().num_steps == 9
    assert torch.equal(outer, wanted[0])
    assert torch.equal(inner[0], wanted[1])


def test_two_pipelines_that_share_a_scheduler() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    one, other = (SmallPipeline(small(seed=seed), scheduler) for seed in (0, 1))
    with start(one, **MASKED) as first, start(other, **MASKED) as second:
        for _ in range(2):
            one(6)
            check_steps(first, 6, {"forward 1"})
            other(9)
            check_steps(second, 9, {"forward 1"})


def test_enabled_in_the_middle_of_a_generation() -> None:
    pipe = SmallPipeline(small())
    handles: list[Handle] = []

    def enable(step: int) -> None:
        if step == 3:
            handles.append(start(pipe, **ALWAYS))

    pipe(8, after_step=enable)
    assert row(handles[0]).executed_steps == (0, 1, 2, 3)
    assert row(handles[0]).cached_steps == (1, 2, 3)
    pipe(8)
    assert row(handles[0]).executed_steps == tuple(range(8))
    handles[0].disable()


def test_disabled_in_the_middle_of_a_generation() -> None:
    pipe = SmallPipeline(small())
    handle = start(pipe, **NEVER)
    plain = pipe(6, after_step=lambda step: handle.disable() if step == 2 else None)
    assert torch.equal(pipe(6), plain)


# Transformers alone


def generate(
    model: torch.nn.Module, steps: int, *, seed: int = 0, timesteps: bool = True, forwards: int = 1
) -> torch.Tensor:
    """A loop without pipeline and scheduler."""
    latents = models.noise(seed)
    with torch.no_grad():
        for step in range(steps):
            timestep = (1000 - 1000 * step / steps,) if timesteps else ()
            parts = [model(latents + 0.5 * turn, *timestep) for turn in range(forwards)]
            latents = latents - 0.1 * sum(parts)
    return latents


@pytest.mark.parametrize("refresh", [False, True])
def test_transformer_alone(refresh: bool) -> None:
    model = small()
    plain = generate(model, 9)
    with start(model, **ALWAYS, max_continuous_cached_steps=2) as handle:
        results = []
        for steps in (9, 4, 9, 9, 2, 9):
            if refresh:
                handle.refresh(steps)
            results.append(generate(model, steps))
            assert handle.stats().num_steps == (steps if refresh else None)
            assert row(handle).executed_steps == tuple(range(steps))
            assert row(handle).cached_steps == tuple(s for s in range(1, steps) if s % 3)
    for index in (2, 3, 5):
        assert torch.equal(results[index], results[0])
    with start(model, **NEVER):
        assert torch.equal(generate(model, 9), plain)


def test_transformer_alone_with_a_mask() -> None:
    model = small()
    with start(model, **MASKED) as handle:
        for steps in (9, 5, 28, 1, 9):
            handle.refresh(steps)
            generate(model, steps, forwards=2)
            check_steps(handle, steps, {"forward 1", "forward 2"})


def test_transformer_alone_told_too_few_steps() -> None:
    """The told number ends before the run does: the rest runs uncached, and it is said."""
    model = small()
    with start(model, **ALWAYS) as handle:
        handle.refresh(4)
        generate(model, 7)
        assert row(handle).executed_steps == (0, 1, 2, 3)
        warning = "transformer: 3 forwards ran uncached: the schedule had ended"
        assert warning in handle.stats().warnings
        generate(model, 4)
        assert row(handle).cached_steps == (1, 2, 3)


def test_transformer_alone_with_one_step() -> None:
    model = small()
    plain = [generate(model, 1, seed=seed) for seed in range(12)]
    with start(model, **ALWAYS) as handle:
        # The same timestep again and again: nothing is served from another generation.
        for seed, wanted in enumerate(plain):
            assert torch.equal(generate(model, 1, seed=seed), wanted)
        for seed, wanted in enumerate(plain):
            handle.refresh(1)
            assert torch.equal(generate(model, 1, seed=seed), wanted)
            assert row(handle).executed_steps == (0,)


def test_transformer_alone_with_increasing_timesteps() -> None:
    model = small()
    latents = models.noise()
    with start(model, **ALWAYS) as handle:
        for _ in range(3):
            for timestep in (0.1, 0.2, 0.5, 0.9):
                model(latents, timestep)
            assert row(handle).executed_steps == (0, 1, 2, 3)


def test_without_timesteps_nothing_is_guessed() -> None:
    model = small()
    plain = generate(model, 6, timesteps=False)
    with start(model, **ALWAYS) as handle:
        for told in (None, 6):
            if told:
                handle.refresh(told)
            assert torch.equal(generate(model, 6, timesteps=False), plain)
            assert "nothing tells its steps" in handle.stats().warnings[0]


@pytest.mark.parametrize("forwards", [1, 2])
def test_without_timesteps_but_declared(forwards: int) -> None:
    """With guidance declared and the number of steps told, nothing is left to guess."""
    model = small()
    spec = adapter(guidance={1: "fused", 2: "separate"}[forwards])
    with start(model, spec, **ALWAYS):
        wanted = generate(model, 6, forwards=forwards)
    plain = generate(model, 6, timesteps=False, forwards=forwards)
    branches = {f"forward {turn + 1}" for turn in range(forwards)}
    with start(model, spec, **MASKED) as handle:
        for steps in (6, 4, 9):
            handle.refresh(steps)
            generate(model, steps, timesteps=False, forwards=forwards)
            check_steps(handle, steps, branches)
        # The generation is over; the next one has not been told.
        plain = generate(small(), 6, timesteps=False, forwards=forwards)
        assert torch.equal(generate(model, 6, timesteps=False, forwards=forwards), plain)
        assert any("the schedule had ended" in text for text in handle.stats().warnings)
    assert wanted.isfinite().all()


def test_without_timesteps_but_named() -> None:
    model = Named()
    with start(model, adapter(), **MASKED) as handle:
        handle.refresh(9)
        latents = models.noise()
        with torch.no_grad():
            for step in range(9):
                for name in ("cond", "uncond") if step % 2 else ("cond",):
                    with model.cache_context(name):
                        latents = latents - 0.1 * model(latents)
        assert handle.stats().num_steps == 9
        assert row(handle, branch="cond").executed_steps == tuple(range(9))
        assert row(handle, branch="uncond").executed_steps == (1, 3, 5, 7)


class Named(models.Small):
    """A transformer whose pipeline announces its guidance branches."""

    def cache_context(self, name: str) -> Any:
        import contextlib

        return contextlib.nullcontext(name)


def test_timesteps_of_every_token() -> None:
    """Image to video: the first tokens stay at timestep 0, the largest one is the clock."""
    model = small()
    with start(model, **ALWAYS) as handle:
        for timestep in (900.0, 600.0, 300.0):
            model(models.noise(), torch.tensor([[0.0, timestep, timestep]]))
        assert row(handle).executed_steps == (0, 1, 2)


def test_refresh_of_a_pipeline() -> None:
    """The scheduler knows better than whoever calls `refresh`."""
    pipe = SmallPipeline(small())
    with start(pipe, **MASKED) as handle:
        for told in (None, 50, 3):
            handle.refresh(told)
            pipe(9)
            check_steps(handle, 9, {"forward 1"})
        with pytest.raises(ValueError, match="a whole number from 1 on, not 0"):
            handle.refresh(0)


def test_refresh_where_an_engine_keeps_schedulers_of_its_own() -> None:
    """The pipeline's scheduler is never called: `refresh` and the timesteps are the clock."""
    pipe = SmallPipeline(small())
    with start(pipe, **MASKED) as handle:
        for steps in (9, 4, 16):
            handle.refresh(steps)
            generate(pipe.transformer, steps)
            check_steps(handle, steps, {"forward 1"})


class Phases(SmallPipeline):
    """Puts the timesteps of each phase into the scheduler by itself, as LTX-2 of vLLM-Omni."""

    def __call__(self, steps: int, second: int = 0) -> torch.Tensor:
        latents = models.noise(1)
        for count in (steps, second):
            self.scheduler.timesteps = torch.linspace(1000, 100, count)
            for timestep in self.scheduler.timesteps:
                latents = latents - 0.1 * self.transformer(latents, timestep)
        return latents


@torch.no_grad()
@pytest.mark.parametrize("told", [None, 9, 30])
def test_timesteps_that_a_pipeline_puts_in(told: int | None) -> None:
    pipe = Phases(small())
    with start(pipe, **MASKED) as handle:
        for second in (4, 16, 9):
            if told is not None:
                handle.refresh(told)
            pipe(9)
            check_steps(handle, 9, {"forward 1"})
            if told is not None:
                handle.refresh(told)
            pipe(9, second)
            check_steps(handle, second, {"forward 1"})


class PutsIn(SmallPipeline):
    """Puts the timesteps of each generation into one scheduler, and steps it."""

    @torch.no_grad()
    def __call__(self, steps: int, *, tells: bool) -> torch.Tensor:
        scheduler = self.scheduler
        scheduler.timesteps = torch.linspace(1000, 100, steps)
        scheduler.sigmas = torch.linspace(1, 0, steps + 1)
        scheduler._step_index = None
        latents = models.noise()
        for timestep in scheduler.timesteps:
            update = self.transformer(latents, timestep if tells else None)
            latents = self.step(update, timestep, latents)
        return latents


@pytest.mark.parametrize("tells", [True, False])
def test_a_schedule_that_the_first_step_tells(tells: bool) -> None:
    pipe = PutsIn(small())
    with start(pipe, **ALWAYS) as handle:
        for steps in (6, 9):
            pipe(steps, tells=tells)
            assert handle.stats().num_steps == steps
            assert row(handle).cached_steps[-1] == steps - 1


class OwnScheduler:
    """Steps, and has no schedule."""

    def set_timesteps(self, steps: int) -> None:
        raise NotImplementedError

    def step(self, update: torch.Tensor, timestep: Any, latents: torch.Tensor) -> Any:
        return (latents - 0.1 * update,)


@pytest.mark.parametrize("tells", [True, False])
def test_a_scheduler_without_a_schedule_tells_nothing(tells: bool) -> None:
    """But the timesteps of the forwards do: each generation begins anew."""
    pipe = SmallPipeline(small(), OwnScheduler())

    @torch.no_grad()
    def run() -> torch.Tensor:
        latents = models.noise()
        for timestep in torch.linspace(1000, 100, 5):
            update = pipe.transformer(latents, timestep if tells else None)
            latents = pipe.step(update, timestep, latents)
        return latents

    plain = run()
    with start(pipe, **ALWAYS) as handle:
        for _ in range(2):
            found = run()
            if tells:
                assert row(handle).cached_steps == (1, 2, 3, 4)
            else:
                assert torch.equal(found, plain)
                assert "nothing tells its steps" in handle.stats().warnings[0]


def test_refresh_from_another_thread() -> None:
    model = small()
    with start(model, **MASKED) as handle:
        for steps in (9, 4):
            handle.refresh(steps)
            worker = threading.Thread(target=generate, args=(model, steps))
            worker.start()
            worker.join()
            check_steps(handle, steps, {"forward 1"})


def test_stats_before_the_first_generation() -> None:
    with start(SmallPipeline(small()), **ALWAYS) as handle:
        assert handle.stats().num_steps is None
        assert handle.stats().branches == ()
        assert "no generation has run" in handle.stats().warnings[0]


def test_stats_count_blocks() -> None:
    pipe = SmallPipeline(small(count=6))
    with start(pipe, **ALWAYS, Bn_compute_blocks=2) as handle:
        pipe(5)
        assert row(handle).total_blocks == 30
        assert row(handle).computed_blocks == 6 + 4 * 3
        assert handle.stats().computed_fraction == 18 / 30
        assert handle.stats().hit_ratio == 4 / 5


def test_stats_say_that_nothing_can_hit() -> None:
    pipe = SmallPipeline(small())
    with start(pipe, **{**ALWAYS, "residual_diff_threshold": 1e-6}) as handle:
        pipe(5)
        (warning,) = handle.stats().warnings
        assert "threshold 1e-06 is below every difference seen" in warning
    with start(pipe, **{**ALWAYS, "max_warmup_steps": 8}) as handle:
        pipe(5)
        (warning,) = handle.stats().warnings
        assert "lower max_warmup_steps" in warning
