"""Every shipped adapter of several lists, each list following the one before it."""

from __future__ import annotations

import dataclasses

import cache_dit
import pytest
import torch
from cache_dit import DBCacheConfig, TaylorSeerCalibratorConfig

import cachedit_yaml
from cachedit_yaml.engines.diffusers.probe import find_pipeline
from cachedit_yaml.probe.check import check_recipe
from cachedit_yaml.probe.recipe import recipes
from tests import tiny
from tests.zoo.lists import following, several
from tests.zoo.test_adapters import NEWEST, SHIPPED

SEVERAL = {name: following(spec) for name, spec in SHIPPED.items() if several(spec)}
#: The first make of each pipeline class, and of each transformer alone.
CASES = {
    f"{name}-{recipe.pipeline or 'alone'}": (name, recipe)
    for name, spec in SEVERAL.items()
    for recipe in reversed(list(recipes(spec)))
    if find_pipeline(recipe.pipeline or "FluxPipeline") is not None
}


def test_there_are_enough() -> None:
    assert len(SEVERAL) >= 10
    assert len(CASES) >= (40 if NEWEST else 20)


@pytest.mark.parametrize("case", CASES)
def test_proofs(case: str) -> None:
    """Exact with no hit; on a hit F blocks of the first and B of the last list run."""
    name, recipe = CASES[case]
    first = dataclasses.replace(recipe, cases=dict(list(recipe.cases.items())[:2]))
    results = list(check_recipe(SEVERAL[name], first))
    wrong = [line for item in results for line in item.failures()]
    if not NEWEST:
        # Some pipelines of older releases cannot run at all, cached or not.
        wrong = [line for line in wrong if "the uncached call raised" not in line]
    assert not wrong
    assert results


@pytest.mark.parametrize("calibrator", [None, "taylorseer"])
@pytest.mark.parametrize(("fn", "bn"), [(1, 0), (2, 1), (4, 0)])
@pytest.mark.parametrize("threshold", [0.0, 0.9, 0.999])
def test_beside_cache_dit(threshold: float, fn: int, bn: int, calibrator: str | None) -> None:
    """cache-dit's own adapter chains FLUX's lists: the same steps, and the same up to rounding."""
    pipe = tiny.build("FluxPipeline")
    steps, plain = 10, tiny.run(pipe, steps=10)
    settings = {
        "Fn_compute_blocks": fn,
        "Bn_compute_blocks": bn,
        "max_warmup_steps": 3,
        "residual_diff_threshold": threshold,
        "max_continuous_cached_steps": 2,
    }
    own = {"cache_config": {**settings, "calibrator": calibrator}}
    with cachedit_yaml.enable(pipe, SEVERAL["flux"], **own) as handle:
        output, stats = tiny.run(pipe, steps=steps), handle.stats()
    with cachedit_yaml.enable(pipe, SEVERAL["flux"], **own, execution="native") as handle:
        native, native_stats = tiny.run(pipe, steps=steps), handle.stats()
    assert torch.equal(tiny.run(pipe, steps=steps), plain)
    # cache-dit patches the class of the pipeline: it gets one of its own.
    cls = type(pipe)
    pipe.__class__ = type(cls.__name__, (cls,), {"__module__": cls.__module__})
    config = None
    if calibrator is not None:
        config = TaylorSeerCalibratorConfig(
            enable_calibrator=True, enable_encoder_calibrator=True, taylorseer_order=1
        )
    cache_dit.enable_cache(
        pipe,
        cache_config=DBCacheConfig(**settings, enable_separate_cfg=False),
        calibrator_config=config,
    )
    theirs = tiny.run(pipe, steps=steps)
    (context,) = pipe.transformer._context_manager._cached_context_manager.values()
    assert [item.cached_steps for item in stats.branches] == [tuple(context.cached_steps)] * 2
    assert bool(context.cached_steps) == (threshold > 0)
    assert sum(item.computed_blocks for item in stats.branches) == 8 * steps - (
        len(context.cached_steps) * (8 - fn - bn)
    )
    torch.testing.assert_close(output, theirs, rtol=1e-4, atol=1e-5)
    # `native` has cache-dit chain them too.
    assert torch.equal(native, theirs)
    for ours, other in zip(stats.branches, native_stats.branches, strict=True):
        assert other.follows == ours.follows
        assert other.cached_steps == ours.cached_steps
        assert other.computed_blocks == ours.computed_blocks
        assert other.residual_diffs == pytest.approx(ours.residual_diffs, rel=1e-3)
    if not context.cached_steps:
        assert torch.equal(output, plain)
