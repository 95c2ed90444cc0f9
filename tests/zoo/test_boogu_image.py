"""The adapter for Boogu-Image, whose package is on no index, on stand-ins with the same loops."""

from __future__ import annotations

import copy
from typing import Any

import cache_dit
import pytest
import torch
from cache_dit.caching.block_adapters import adapters
from torch import nn

import cachedit_yaml
from tests.runtime.models import ALWAYS, NEVER, calls, rows
from tests.zoo.boogu_image import BooguImagePipeline, BooguImageTurboPipeline

ADAPTER = "boogu-image"
#: Every step after the first hits; the adapter itself lets no more than one follow another.
EVERY_STEP = {**ALWAYS, "max_continuous_cached_steps": -1}
#: Calls of the pipeline, and how many forwards each step makes.
CALLS: dict[str, tuple[dict[str, Any], int]] = {
    "unguided": ({"text_guidance_scale": 1.0}, 1),
    "text": ({}, 2),
    "two of unequal length": ({"batch": 2}, 2),
    "edit, text": ({"reference": True}, 2),
    "edit, image": (
        {"reference": True, "text_guidance_scale": 1.0, "image_guidance_scale": 2.0},
        2,
    ),
    "edit, both": ({"reference": True, "image_guidance_scale": 2.0}, 3),
    "edit, all": (
        {
            "reference": True,
            "image_guidance_scale": 2.0,
            "empty_instruction_guidance_scale": 0.5,
        },
        4,
    ),
}


@pytest.fixture
def pipe() -> BooguImagePipeline:
    return BooguImagePipeline()


def enable(pipe: Any, settings: dict[str, Any], **more: Any) -> Any:
    """Found by the pipeline's class alone."""
    return cachedit_yaml.enable(pipe, cache_config=settings, **more)


@pytest.mark.parametrize("name", CALLS)
def test_exact_with_no_hit(pipe: BooguImagePipeline, name: str) -> None:
    arguments, forwards = CALLS[name]
    plain = pipe(**arguments)
    with enable(pipe, NEVER) as handle:
        assert handle.plan.spec.name == ADAPTER
        assert torch.equal(pipe(**arguments), plain)
        assert {key: len(item.executed_steps) for key, item in rows(handle).items()} == {
            f"{blocks} [forward {turn}]": 6
            for blocks in ("double_stream_layers", "single_stream_layers")
            for turn in range(1, forwards + 1)
        }
    assert torch.equal(pipe(**arguments), plain)


@pytest.mark.parametrize(("fn", "bn"), [(1, 0), (1, 1), (2, 1)])
@pytest.mark.parametrize("name", CALLS)
def test_a_hit_computes_f_and_b_blocks(
    pipe: BooguImagePipeline, name: str, fn: int, bn: int
) -> None:
    arguments, forwards = CALLS[name]
    plain = pipe(**arguments)
    lists = (pipe.transformer.double_stream_layers, pipe.transformer.single_stream_layers)
    settings = {**EVERY_STEP, "Fn_compute_blocks": fn, "Bn_compute_blocks": bn}
    for blocks in lists:
        with calls(*blocks) as seen, enable(pipe, settings) as handle:
            output = pipe(**arguments)
            assert output.isfinite().all()
            assert not torch.equal(output, plain)
            found = [item for item in rows(handle).values() if len(item.cached_steps)]
            assert {len(item.cached_steps) for item in found} == {5}
            assert len(found) == 2 * forwards
        computed = len(blocks) + 5 * (fn + bn)  # the first step is no hit
        assert len(seen) == forwards * computed


def test_the_interval_of_guidance(pipe: BooguImagePipeline) -> None:
    arguments = {"cfg_range": (0.3, 0.7)}
    plain = pipe(**arguments)
    with enable(pipe, NEVER) as handle:
        assert torch.equal(pipe(**arguments), plain)
        numbers = [len(item.executed_steps) for item in rows(handle).values()]
        assert sorted(numbers) == [3, 3, 6, 6]


@pytest.mark.parametrize("name", ["text", "two of unequal length", "edit, text"])
def test_as_cache_dit_itself(pipe: BooguImagePipeline, name: str) -> None:
    """Where guidance makes two forwards, cache-dit's own adapter for these classes is right."""
    if not hasattr(adapters, "boogu_image_adapter"):
        pytest.skip("this cache-dit has no adapter for these classes")
    arguments, _ = CALLS[name]
    settings = {**ALWAYS, "max_continuous_cached_steps": 2}

    class Patched(BooguImagePipeline):
        """Its class is what cache-dit changes."""

    theirs = Patched()
    config = cache_dit.DBCacheConfig(num_inference_steps=6, Bn_compute_blocks=0, **settings)
    cache_dit.enable_cache(adapters.boogu_image_adapter(theirs), cache_config=config)
    expected = theirs(num_inference_steps=6, **arguments)
    cache_dit.disable_cache(theirs)
    with enable(pipe, settings) as handle:
        assert torch.equal(pipe(**arguments), expected)
        assert {item.cached_steps for item in rows(handle).values()} == {(1, 2, 4, 5)}


def test_native_execution_is_refused(pipe: BooguImagePipeline) -> None:
    """What the loop sets on each block would be set on cache-dit's one block."""
    with pytest.raises(cachedit_yaml.CompileError, match=r"layer\.enable_taylorseer = False"):
        enable(pipe, NEVER, execution="native")


def test_the_turbo_pipeline_never_calls_its_scheduler() -> None:
    pipe = BooguImageTurboPipeline()
    plain = pipe(num_inference_steps=4)
    with enable(pipe, NEVER) as handle:
        for _ in range(2):
            assert torch.equal(pipe(num_inference_steps=4), plain)
            assert [len(item.executed_steps) for item in rows(handle).values()] == [4, 4]
    with enable(pipe, EVERY_STEP) as handle:
        outputs = [pipe(num_inference_steps=4) for _ in range(2)]
        assert torch.equal(*outputs)  # nothing is left over from the generation before
        assert [len(item.cached_steps) for item in rows(handle).values()] == [3, 3]


def test_disabling_restores(pipe: BooguImagePipeline) -> None:
    plain = pipe()  # the loop sets an attribute on its blocks, cached or not

    def state() -> list[dict[str, Any]]:
        owners = [pipe, pipe.scheduler, *pipe.transformer.modules()]
        return [
            {key: id(value) for key, value in vars(owner).items()}
            for owner in owners
            if isinstance(owner, nn.Module) or owner is pipe
        ] + [copy.copy(vars(pipe.scheduler)).keys()]

    before = state()
    handle = enable(pipe, ALWAYS)
    handle.disable()
    assert state() == before
    assert torch.equal(pipe(), plain)


@pytest.mark.parametrize("profile", [None, "quality", "balanced", "fast"])
def test_profiles(pipe: BooguImagePipeline, profile: str | None) -> None:
    for steps in (4, 20):
        with cachedit_yaml.enable(pipe, ADAPTER, profile=profile) as handle:
            assert pipe(num_inference_steps=steps).isfinite().all()
            assert handle.stats().num_steps == steps


def test_by_the_transformer_alone(pipe: BooguImagePipeline) -> None:
    plain = pipe(text_guidance_scale=1.0)
    with cachedit_yaml.enable_transformer(pipe.transformer, cache_config=NEVER):
        assert torch.equal(pipe(text_guidance_scale=1.0), plain)
