"""What is scored: decisions as the runtime takes them, sums of errors, masks by swaps."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from cache_dit.caching.cache_contexts.calibrators.taylorseer import TaylorSeerState

import cachedit_yaml
from cachedit_yaml.generating.likeness import Likeness
from cachedit_yaml.language.spec import StepMask
from cachedit_yaml.probe.pipelines import quiet
from cachedit_yaml.rules.load import parse_settings
from cachedit_yaml.runtime.masks import build_mask
from cachedit_yaml.tuning import search
from cachedit_yaml.tuning.candidates import Candidate, bins, calibrator, mask_in
from cachedit_yaml.tuning.gaps import Gaps
from cachedit_yaml.tuning.guess import Guess
from cachedit_yaml.tuning.masks import beside, masks
from cachedit_yaml.tuning.record import tracing
from cachedit_yaml.tuning.sampler import guidance_factors, step_weights
from cachedit_yaml.tuning.surrogate import APART, Surrogate
from cachedit_yaml.tuning.targets import Measured, Target, promising
from cachedit_yaml.tuning.units import Unit
from tests import tiny

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def curve(steps: int = 12, seed: int = 0) -> Unit:
    """A unit whose residuals lie on a smooth curve, so that its errors are known."""
    generator = np.random.default_rng(seed)
    waves = generator.normal(size=(3, 2, 8))
    times = np.arange(steps) / steps
    path = np.stack([sum(wave * t**k for k, wave in enumerate(waves)) for t in times])
    errors = np.full((steps, steps, 2, 8), np.nan, np.float32)
    differences = np.full((steps, steps, 1), np.inf)
    for step, distance in itertools.product(range(steps), range(steps)):
        if distance <= step:
            errors[step, distance] = path[step - distance] - path[step]
            differences[step, distance] = distance / steps
    return Unit(
        transformer="transformer",
        branch="forward 1",
        share=steps,
        blocks=(10,),
        lists=("blocks",),
        leaders=(0,),
        steps=list(range(steps)),
        differences={1: differences},
        errors={(0, 0): errors, (1, 0): errors},
    )


def test_a_step_is_repeated_or_forecast() -> None:
    unit = curve()
    surrogate = Surrogate([[unit]])
    table = unit.errors[0, 0]
    mask = [1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1]
    repeated = surrogate.mask(mask, order=0)
    total = table[6, 1] + table[7, 2]
    assert repeated.error == pytest.approx(float(np.sqrt(np.square(total).sum(1).mean())))
    assert repeated.blocks == pytest.approx(10 / 12)
    total = 2 * table[6, 1] - table[6, 2] + 3 * table[7, 2] - 2 * table[7, 3]
    forecast = surrogate.mask(mask, order=1)
    assert forecast.error == pytest.approx(float(np.sqrt(np.square(total).sum(1).mean())), rel=1e-4)
    # No slope before there are two computed steps and three steps in all, as in cache-dit.
    early = [1, 1, 0, *[1] * 9]
    assert surrogate.mask(early, order=1).error == surrogate.mask(early, order=0).error


@pytest.mark.parametrize("order", [1, 2])
def test_forecasts_are_cache_dits(order: int) -> None:
    """The errors add up to those of its own TaylorSeer, fed with the same curve."""
    unit = curve(16)
    truth = [torch.tensor(-unit.errors[0, 0][step, step]) for step in range(16)]
    mask = [1, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 0, 0]
    state = TaylorSeerState(n_derivatives=order)
    runs = [torch.zeros_like(truth[0])]
    for step, flag in enumerate(mask):
        if step:  # made by the first step, after it has begun
            state.mark_step_begin()
        if flag:
            state.update(truth[step])
            runs.append(torch.zeros_like(truth[0]))
        else:
            runs[-1] += state.approximate() - truth[step]
    # The sum, and the runs of cached steps by themselves.
    found = torch.stack(runs)
    whole, apart = found.sum(0).square().sum(1), found.square().sum((0, 2))
    wanted = float(((1 - APART) * whole + APART * apart).mean().sqrt())
    assert Surrogate([[unit]]).mask(mask, order=order).error == pytest.approx(wanted, rel=1e-3)


def test_limits_and_lists() -> None:
    """At most so many steps in all; a threshold of its own; B; a list that follows."""
    unit = curve()
    two = dataclasses.replace(
        unit,
        blocks=(10, 10),
        lists=("one", "two"),
        leaders=(0, 1),
        differences={1: np.repeat(unit.differences[1], 2, axis=2)},
        errors={**unit.errors, (1, 1): unit.errors[1, 0]},
    )
    given: dict[str, Any] = {"fn": 1, "warmup": 2, "threshold": 0.3, "in_a_row": 2, "order": 0}
    both = Surrogate([[two]])
    plain = both.dynamic(**given)
    assert plain.settings.keys() == Surrogate([[unit]]).dynamic(**given).settings.keys()
    hits = round((1 - plain.blocks) * 12 / 0.9)
    capped = both.dynamic(**given, most=hits - 2)
    assert 1 - capped.blocks == pytest.approx(0.9 * (hits - 2) / 12)
    assert capped.settings["max_cached_steps"] == hits - 2
    half = both.dynamic(**given, lists={"transformer.two": 0.01})
    assert 1 - half.blocks == pytest.approx((1 - plain.blocks) / 2)
    assert half.settings["lists"] == {"transformer.two": {"residual_diff_threshold": 0.01}}
    assert "lists: transformer.two residual_diff_threshold 0.01" in half.key
    assert 1 - both.dynamic(**given, bn=1).blocks == pytest.approx(0.8 * hits / 12)
    follows = Surrogate([[dataclasses.replace(two, leaders=(0, 0))]])
    assert follows.deciding == ["transformer.one"]
    assert 1 - follows.dynamic(**given).blocks == pytest.approx(0.95 * hits / 12)
    # One block of the first list, one of the last.
    assert 1 - follows.dynamic(**given, bn=1).blocks == pytest.approx(0.9 * hits / 12)
    refined = search.refined(both, [plain])
    assert {item.settings.get("max_cached_steps", 99) < hits for item in refined} == {True, False}
    assert any("lists" in item.settings for item in refined)


def test_what_the_trace_errs_on_is_learned() -> None:
    """What was run says what others like it come to; what is unlike all of it may be better."""

    def made(order: int, error: float, warmup: int = 1) -> Candidate:
        settings = {
            "Fn_compute_blocks": 1,
            "max_warmup_steps": warmup,
            "x": error,
            "calibrator": calibrator(order),
        }
        return Candidate(settings, 0.3, error)

    def ran(item: Candidate, psnr: float, *more: float) -> Measured:
        near = Likeness((psnr, *more), psnr, None)
        return Measured(item.settings, item.key, item.blocks, 1.0, near, error=item.error)

    target = Target("a", "blocks", 0.33)
    one, two = made(1, 1.0), made(2, 0.9)
    assert promising(target, [one, two], []) is two
    # Order 1 came to 26 dB at an error of 2, so 32 at 1; order 2 to 20, so 27 at 0.9.
    both = [ran(made(1, 2.0), 26), ran(made(2, 2.0), 20)]
    assert promising(target, [one, two], both) is one
    # None of order 0 was run: it may be 4 dB better than what the others say of it.
    near, far = made(0, 1.05), made(0, 1.4)
    assert promising(target, [one, near], both) is near
    assert promising(target, [one, far], both) is one
    assert promising(target, [one, near], [*both, ran(made(0, 2.0), 26)]) is one
    # A warm-up that was not tried either, before more of what was.
    warmer = made(1, 1.2, warmup=8)
    assert promising(target, [one, warmer], both) is warmer
    # Where more blocks ran than expected, more will of others: what is left is cheaper.
    dear = dataclasses.replace(ran(two, 40), blocks=0.36)
    cheap = dataclasses.replace(made(1, 3.0), blocks=0.25)
    assert promising(target, [one, two, cheap], [dear]) is cheap
    # A promised PSNR is that of the worst quarter.
    promised = Target("a", "psnr", 31.0)
    assert promising(promised, [one], both) is one
    assert promising(promised, [made(1, 2.5)], both) is None
    assert promising(promised, [one], [ran(made(1, 2.0), 26, 20)]) is None


def test_lists_decide_each_for_itself() -> None:
    """Where one of two lists hits, half of the blocks run, and half of the error is there."""
    unit = curve()
    other = np.full_like(unit.differences[1], 0.9)
    two = dataclasses.replace(
        unit,
        blocks=(10, 10),
        lists=("blocks", "other"),
        leaders=(0, 1),
        differences={1: np.concatenate([unit.differences[1], other], 2)},
    )
    settings: dict[str, Any] = {"fn": 1, "warmup": 3, "in_a_row": 2, "order": 1}
    one, both = (Surrogate([[item]]).dynamic(threshold=0.5, **settings) for item in (unit, two))
    assert 1 - both.blocks == pytest.approx((1 - one.blocks) / 2)
    assert both.error == pytest.approx(one.error / 2, rel=1e-5)


def test_swaps_find_the_best_mask() -> None:
    surrogate = Surrogate([[curve(9)]])
    (found,) = masks(surrogate, [4 / 9])
    every = [
        surrogate.mask([1, *flags])
        for flags in itertools.product((0, 1), repeat=8)
        if sum(flags) == 3
    ]
    best = min(item.error for item in every)
    assert found.blocks == pytest.approx(4 / 9)
    assert found.error <= 1.25 * best


def test_masks_beside_one_differ_little() -> None:
    """A step or a run of them moved, one more, one less; the first one stays, and all fit."""
    surrogate = Surrogate([[curve(9)]])
    own = surrogate.mask([1, 0, 0, 1, 0, 1, 0, 0, 0], 1)
    near = beside(surrogate, own.settings)
    masks_of = {tuple(mask_in(item.settings)) for item in near}
    assert len(masks_of) == len(near)
    assert tuple(mask_in(own.settings)) not in masks_of
    assert all(mask[0] and len(mask) == 9 for mask in masks_of)
    assert {sum(mask) for mask in masks_of} == {2, 3, 4}
    assert (1, 0, 0, 1, 1, 0, 0, 0, 0) in masks_of
    assert (1, 0, 0, 0, 1, 0, 1, 0, 0) in masks_of
    for item in near:
        assert item.family == own.family
        assert item.error == surrogate.mask(mask_in(item.settings), 1).error


def test_a_run_says_most_of_the_masks_beside_it() -> None:
    """What came out better than expected lifts what is near it, along the generation."""
    surrogate = Surrogate([[curve(20)]])

    def made(*computed: int) -> Candidate:
        found = surrogate.mask([int(step in computed) for step in range(20)], 1)
        return dataclasses.replace(found, error=1.0)

    early, late = made(0, 2, 4, 7, 11), made(0, 8, 12, 15, 18)
    guess = Guess([(early.settings, 0.25, 1.0, 40.0), (late.settings, 0.25, 1.0, 30.0)])
    assert 39 < guess.of(made(0, 2, 5, 7, 11)) < 41
    assert 30 < guess.of(made(0, 7, 12, 15, 18)) < 32
    # The one that is like none of them may be better than the mean of both says.
    assert guess.of(made(0, 4, 8, 11, 15)) > 35


@pytest.mark.parametrize("order", [0, 1, 2])
def test_gaps_add_up_to_the_mask(order: int) -> None:
    """Of several calls, with units that add up and some that have another shape."""
    one, other = curve(9), curve(9, 2)
    calls = [[one, other], [other]]
    surrogate = Surrogate(calls)
    gaps = Gaps(surrogate, order)
    for flags in itertools.product((0, 1), repeat=8):
        mask = [1, *flags]
        computed = [step for step, flag in enumerate(mask) if flag]
        expected = surrogate.mask(mask, order).error
        assert gaps.error(computed[::-1]) == pytest.approx(expected, rel=1e-5)


def test_gaps_of_a_branch_that_skips_steps() -> None:
    """Guidance that does not run in every step is scored as the mask is."""
    part = dataclasses.replace(curve(9), steps=list(range(3, 12)), share=12)
    surrogate = Surrogate([[curve(12), part]])
    mask = [1, 0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 0]
    computed = [step for step, flag in enumerate(mask) if flag]
    assert Gaps(surrogate, 1).error(computed) == surrogate.mask(mask, 1).error


@pytest.mark.parametrize("mask", [[1, 1, 0, 0, 1, 0], [1, 0, 1, 0, 0, 1, 1], [1, 0]])
def test_bins_are_the_mask_and_go_on(mask: list[int]) -> None:
    scm = parse_settings({"scm": {"policy": "static", **bins(mask)}}).scm
    assert isinstance(scm, StepMask)
    assert build_mask(scm, len(mask), "here") == mask
    assert mask_in({"scm": {"policy": "static", **bins(mask)}}) == mask
    assert build_mask(scm, 1, "here") == [1]
    longer = build_mask(scm, 3 * len(mask), "here")
    assert longer is not None
    assert longer == [*mask, *[1] * 2 * len(mask)]


def test_no_worse_one_lies_on_the_front() -> None:
    surrogate = Surrogate([[curve()]])
    front = search.front(search.settings(surrogate))
    assert len(front) > 3
    for one, other in itertools.pairwise(front):
        assert one.blocks < other.blocks
        assert one.error > other.error


@pytest.mark.parametrize("pipeline", ["StableDiffusion3Pipeline", "FluxPipeline"])
def test_steps_hit_as_simulated(pipeline: str) -> None:
    """Limits and thresholds mean to the simulation what they mean to cache-dit."""
    pipe = tiny.build(pipeline)
    with quiet(), tracing(pipe, cachedit_yaml.find_adapter(pipe)) as recorder:
        tiny.run(pipe, steps=10)
    (unit,) = recorder.units()
    settings: list[dict[str, Any]] = [
        {"warmup": 3, "threshold": 0.9, "in_a_row": 2},
        {"warmup": 1, "threshold": 0.9, "in_a_row": 5},
        {"warmup": 1, "threshold": 0.3, "in_a_row": 1},
        {"warmup": 1, "threshold": 0.9, "in_a_row": 5, "most": 3},
    ]
    surrogate = Surrogate([[unit]])
    for item in settings:
        made = surrogate.dynamic(fn=1, order=0, **item)
        with cachedit_yaml.enable(pipe, cache_config=dict(made.settings)) as handle:
            tiny.run(pipe, steps=10)
            real = handle.stats().computed_fraction
        assert abs(made.blocks - real) < 0.08, item  # what is cached changes what comes after
    assert surrogate.dynamic(fn=1, order=0, **settings[0]).blocks < 1


def test_guidance_is_read_off() -> None:
    cond, uncond = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    given = uncond + 3 * (cond - uncond)
    found = guidance_factors([cond, uncond], given)
    assert found is not None
    assert found[0] == 2
    assert np.allclose(found[1], [[3], [-2]], atol=1e-4)
    # As one batch, and with the prediction given twice.
    found = guidance_factors([torch.cat([uncond, cond])], torch.cat([given, given]))
    assert found is not None
    assert found[0] == 2
    assert np.allclose(found[1], [[-2, 3]], atol=1e-4)
    assert guidance_factors([cond], torch.randn(2, 3, 4, 4)) is None


@pytest.mark.parametrize(
    "name", ["FlowMatchEulerDiscreteScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler"]
)
def test_weights_are_what_a_step_adds(name: str) -> None:
    import copy

    import diffusers

    scheduler = getattr(diffusers, name)()
    scheduler.set_timesteps(6)
    fresh = copy.deepcopy(scheduler)
    latents = torch.zeros(1, 2, 3, 3)
    weights = step_weights(fresh, list(scheduler.timesteps), latents, latents, {})
    assert weights is not None

    def final(place: int, size: float) -> float:
        own, now = copy.deepcopy(fresh), latents
        for index, step in enumerate(own.timesteps):
            given = torch.full_like(latents, size if index == place else 0.0)
            now = own.step(given, step, now, return_dict=False)[0]
        return float(now.mean())

    for place in (0, 2, 5):
        assert weights[place] == pytest.approx(final(place, 0.01) / 0.01, rel=1e-3)
