"""Step computation masks: of the run's own length, sound for every number of steps."""

from __future__ import annotations

from typing import Any

import cache_dit
import pytest

from cachedit_yaml import enable, load_adapter
from cachedit_yaml.errors import ConfigError
from cachedit_yaml.language.spec import StepMask
from cachedit_yaml.runtime.masks import build_mask, is_sound, longest_gap, preset_mask, rescale
from tests.runtime import models
from tests.runtime.models import SmallPipeline, small, start

PRESETS = ("slow", "medium", "fast", "ultra")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_number_of_steps(preset: str) -> None:
    for steps in range(1, 201):
        mask = preset_mask(preset, steps)
        assert len(mask) == steps
        assert set(mask) <= {0, 1}
        assert mask[0] == mask[-1] == 1, steps
        assert sum(mask) >= min(3, steps), steps
        if is_sound(steps):
            assert mask == cache_dit.steps_mask(mask_policy=preset, total_steps=steps), steps


@pytest.mark.parametrize("preset", PRESETS)
def test_gaps_are_filled_in_proportion(preset: str) -> None:
    """Where cache-dit's preset collapses or raises, the nearest sound one is rescaled."""
    gaps = [steps for steps in range(1, 201) if not is_sound(steps)]
    assert gaps == [1, 2, 3, 5, 7, *range(16, 28)]
    for steps in gaps:
        if steps <= 3:
            assert preset_mask(preset, steps) == [1] * steps
            continue
        source = preset_mask(preset, 28 if steps >= 16 else 8)
        mask = preset_mask(preset, steps)
        # Rounding to whole steps, and nothing else, moves the share of computed steps.
        assert abs(sum(mask) / steps - sum(source) / len(source)) <= 1 / steps, steps
        assert longest_gap(mask) <= longest_gap(source), steps
        # As in the source, the steps at the beginning are computed more densely.
        half = steps // 2
        assert sum(mask[:half]) >= sum(mask[-half:]), steps


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_keep_their_order(preset: str) -> None:
    slower = PRESETS[max(0, PRESETS.index(preset) - 1)]
    for steps in range(1, 201):
        assert sum(preset_mask(preset, steps)) <= sum(preset_mask(slower, steps)), steps


def test_what_cache_dit_makes_of_the_gaps() -> None:
    """The reason for all this; if it fails, cache-dit has mended its presets."""
    assert sum(cache_dit.steps_mask(mask_policy="ultra", total_steps=16)) == 3
    for steps in (1, 2, 3, 5, 7):
        with pytest.raises(AssertionError):
            cache_dit.steps_mask(mask_policy="medium", total_steps=steps)


def test_rescale_keeps_a_mask_of_the_same_length() -> None:
    for preset in PRESETS:
        mask = preset_mask(preset, 28)
        assert rescale(mask, 28) == mask


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 8, 16, 19, 27, 28, 40])
@pytest.mark.parametrize("preset", ["slow", "ultra"])
def test_a_run_follows_its_mask(preset: str, steps: int) -> None:
    pipe = SmallPipeline(small())
    scm = {"preset": preset, "policy": "static"}
    with start(pipe, Fn_compute_blocks=1, scm=scm) as handle:
        pipe(steps)
        mask = preset_mask(preset, steps)
        branch = models.row(handle)
        assert branch.executed_steps == tuple(range(steps))
        assert branch.cached_steps == tuple(step for step in range(steps) if not mask[step])


def test_mask_by_hand() -> None:
    pipe = SmallPipeline(small())
    scm: dict[str, Any] = {"mask": [1, 1, 0, 1, 0], "policy": "static"}
    with start(pipe, Fn_compute_blocks=1, scm=scm) as handle:
        pipe(5)
        assert models.row(handle).cached_steps == (2, 4)
        with pytest.raises(ConfigError, match=r"scm\.mask has 5 entries .* executes 6 steps"):
            pipe(6)
        with pytest.raises(ConfigError, match=r"scm\.mask has 5 entries .* executes 4 steps"):
            pipe(4)
        # The failed generations leave nothing behind.
        pipe(5)
        assert models.row(handle).cached_steps == (2, 4)


def test_bins() -> None:
    scm = StepMask(compute_bins=(3, 1, 2), cache_bins=(2, 2))
    assert build_mask(scm, 10, "here") == [1, 1, 1, 0, 0, 1, 0, 0, 1, 1]
    assert build_mask(scm, 7, "here") == [1, 1, 1, 0, 0, 1, 0]
    with pytest.raises(ConfigError, match=r"here: scm bins cover 10 steps .* executes 11"):
        build_mask(scm, 11, "here")


def test_unequal_bins() -> None:
    many = StepMask(compute_bins=(1,), cache_bins=(1, 2, 3))
    assert build_mask(many, 7, "here") == [1, 0, 0, 0, 0, 0, 0]


def test_no_mask() -> None:
    assert build_mask(None, None, "here") is None
    assert build_mask(None, 10, "here") is None


def test_a_mask_needs_the_number_of_steps() -> None:
    model = small()
    with (
        start(model, Fn_compute_blocks=1, scm="fast"),
        pytest.raises(ConfigError, match=r"call handle\.refresh\(num_inference_steps"),
    ):
        model(models.noise(), 1000)


@pytest.mark.parametrize("limit", [{"max_continuous_cached_steps": 2}, {"max_cached_steps": 4}])
def test_a_static_mask_heeds_the_limits(limit: dict[str, int]) -> None:
    """cache-dit ignores them; native execution, which cannot do otherwise, refuses."""
    pipe = SmallPipeline(small())
    scm = {"preset": "ultra", "policy": "static"}
    with start(pipe, Fn_compute_blocks=1, scm=scm, **limit) as handle:
        pipe(28)
        cached = models.row(handle).cached_steps
    if "max_cached_steps" in limit:
        assert len(cached) == 4
    else:
        flags = [0 if step in cached else 1 for step in range(28)]
        assert longest_gap(flags) == 2
    with pytest.raises(Exception, match="under a static mask; set it to -1"):
        start(SmallPipeline(small()), execution="native", Fn_compute_blocks=1, scm=scm, **limit)


@pytest.mark.parametrize("steps", [8, 28])
@pytest.mark.parametrize("where", ["adapter", "profile", "caller"])
def test_limits_of_what_a_static_mask_is_laid_over_are_none(where: str, steps: int) -> None:
    """They were written for decisions by difference, in the adapter or in ``defaults.yaml``."""
    scm = {"preset": "ultra", "policy": "static"}
    mask = preset_mask("ultra", steps)
    data = {
        "schema": 1,
        "name": "small",
        "pipelines": ["SmallPipeline"],
        "transformers": {"transformer": {"blocks": {"blocks": "Pattern_3"}}},
        "cache": {"Fn_compute_blocks": 1},
    }
    if where == "adapter":
        data["cache"] = {"Fn_compute_blocks": 1, "scm": scm}
    else:
        data["cache"] = {"Fn_compute_blocks": 1, "max_cached_steps": 1}
        data["profiles"] = {"masked": {"scm": scm}}
    pipe = SmallPipeline(small())
    profile = "masked" if where == "profile" else None
    settings = {"scm": scm} if where == "caller" else {}
    settings["max_warmup_steps"] = 1
    with enable(pipe, load_adapter(data), profile=profile, cache_config=settings) as handle:
        pipe(steps)
        cached = models.row(handle).cached_steps
    assert cached == tuple(step for step in range(steps) if not mask[step])


def test_a_dynamic_mask_asks_the_difference() -> None:
    pipe = SmallPipeline(small())
    with start(pipe, Fn_compute_blocks=1, scm="ultra", residual_diff_threshold=1e-9) as handle:
        pipe(28)
        assert models.row(handle).cached_steps == ()
