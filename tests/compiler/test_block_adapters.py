"""The compiled BlockAdapters are cache-dit's own objects, and cache-dit takes them."""

from __future__ import annotations

from typing import Any

import cache_dit
import pytest
import torch
from cache_dit import BlockAdapter, DBCacheConfig, DBPruneConfig, ForwardPattern, ParamsModifier
from cache_dit.caching.block_adapters import FakeDiffusionPipeline

from cachedit_yaml import compile_adapter
from tests import tiny
from tests.runtime import odd_models
from tests.runtime.models import SmallPipeline, adapter, noise, small

PIPELINES: list[tuple[str, dict[str, Any]]] = [
    ("FluxPipeline", {}),
    ("QwenImagePipeline", {}),
    ("WanPipeline", {"two": True}),
    ("LongCatImagePipeline", {}),
    ("StableDiffusion3Pipeline", {}),
    ("DiTPipeline", {}),
]


def configs(built: BlockAdapter) -> list[Any]:
    """The config in each list's modifier."""
    return [item._context_kwargs["cache_config"] for item in built.params_modifiers[0]]


@pytest.mark.parametrize(("name", "options"), PIPELINES)
def test_shape(name: str, options: dict[str, Any]) -> None:
    pipe = tiny.build(name, **options)
    plan = compile_adapter(None, pipe)
    built = plan.block_adapters(12)
    assert len(built) == len(plan.transformers)
    for blocks, transformer in zip(built, plan.transformers, strict=True):
        assert isinstance(blocks, BlockAdapter)
        leads = [item for item in transformer.lists if item.follows is None]
        count = len(leads)
        # One transformer, and everything else nested one deeper: nothing is left to pairing.
        assert blocks.transformer == [transformer.module]
        for nested in (
            blocks.blocks, blocks.blocks_name, blocks.forward_pattern, blocks.params_modifiers
        ):  # fmt: skip
            assert len(nested) == 1
            assert len(nested[0]) == count
        for index, item in enumerate(leads):
            # Lists that follow one another are one to cache-dit.
            own = [x for x in transformer.lists if item.path in (x.path, x.follows)]
            assert [*blocks.blocks[0][index]] == [block for x in own for block in x.blocks]
            assert (blocks.blocks[0][index] is item.holder) == (len(own) == 1)
            assert getattr(transformer.module, blocks.blocks_name[0][index]) is item.holder
            assert blocks.forward_pattern[0][index] is ForwardPattern[item.pattern.name]
            assert isinstance(blocks.params_modifiers[0][index], ParamsModifier)
        assert blocks.has_separate_cfg is False
        for config in configs(blocks):
            assert config.enable_separate_cfg is False
            assert config.num_inference_steps == 12
        # What cache-dit checks of a nested adapter holds.
        assert BlockAdapter.is_normalized(BlockAdapter.normalize(blocks))


@pytest.mark.parametrize(("name", "options"), PIPELINES[:4])
def test_cache_dit_takes_them(name: str, options: dict[str, Any]) -> None:
    """Enabled and disabled by cache-dit itself, with every value where it belongs."""
    pipe = tiny.build(name, **options)
    plain = tiny.run(pipe, steps=3)
    settings = {"residual_diff_threshold": 0.0, "Fn_compute_blocks": 1, "max_cached_steps": 5}
    plan = compile_adapter(None, pipe, cache_config=settings)
    built = plan.block_adapters(3)
    for blocks in built:
        cache_dit.enable_cache(blocks, cache_config=DBCacheConfig(enable_separate_cfg=False))
    for transformer in plan.transformers:
        manager = transformer.module._context_manager
        contexts = [manager.get_context(item) for item in transformer.module._context_names]
        leads = [item for item in transformer.lists if item.follows is None]
        for context, item in zip(contexts, leads, strict=True):
            values = item.layers.resolve(3).values
            for key in ("Fn_compute_blocks", "residual_diff_threshold", "max_cached_steps",
                        "max_warmup_steps", "max_continuous_cached_steps"):  # fmt: skip
                assert getattr(context.cache_config, key) == values[key], key
    assert torch.equal(tiny.run(pipe, steps=3), plain)
    for transformer in plan.transformers:
        cache_dit.disable_cache(transformer.module)
    assert torch.equal(tiny.run(pipe, steps=3), plain)


def test_every_list_has_a_modifier_of_its_own() -> None:
    lists = {
        "blocks": {"pattern": "Pattern_3",
                   "params": {"max_warmup_steps": 1, "calibrator": "taylorseer"}},
        "single_blocks": {"pattern": "Pattern_3", "params": {"Bn_compute_blocks": 2}},
    }  # fmt: skip
    spec = adapter(
        transformers={
            "transformer": {"blocks": lists, "params": {"max_cached_steps": 3}},
            "transformer_2": {"blocks": {"single_blocks": "Pattern_3"}},
        },
        cache={"Fn_compute_blocks": 2, "residual_diff_threshold": 0.2},
    )
    pipe = SmallPipeline(odd_models.Double())
    pipe.transformer_2 = odd_models.Double(seed=1)
    first, second = compile_adapter(spec, pipe).block_adapters(9)
    one, other = configs(first)
    assert (one.max_warmup_steps, other.max_warmup_steps) == (1, 8)
    assert (one.Bn_compute_blocks, other.Bn_compute_blocks) == (0, 2)
    assert one.max_cached_steps == other.max_cached_steps == 3
    # cache-dit leaves out what is None.
    kept = [item._context_kwargs for item in first.params_modifiers[0]]
    calibrators = [item.get("calibrator_config") for item in kept]
    assert calibrators[0].taylorseer_order == 1
    assert calibrators[1] is None
    (alone,) = configs(second)
    assert alone.max_cached_steps == -1
    for config in (one, other, alone):
        assert (config.Fn_compute_blocks, config.residual_diff_threshold) == (2, 0.2)
    # Changing one changes no other, and no later one.
    one.Fn_compute_blocks = 7
    assert other.Fn_compute_blocks == 2
    assert configs(compile_adapter(spec, pipe).block_adapters(9)[0])[0].Fn_compute_blocks == 2


@pytest.mark.parametrize(
    ("guidance", "separate"), [("separate", True), ("fused", False), ("observed", False)]
)
def test_separate_guidance_is_explicit(guidance: str, separate: bool) -> None:
    pipe = SmallPipeline(small())
    spec = adapter(guidance=guidance, cache={"Fn_compute_blocks": 1})
    plan = compile_adapter(spec, pipe)
    (built,) = plan.block_adapters()
    assert built.has_separate_cfg is separate
    assert configs(built)[0].enable_separate_cfg is separate


def test_guidance_from_an_attribute() -> None:
    spec = adapter(
        guidance={"separate_when": "not pipeline.is_distilled"}, cache={"Fn_compute_blocks": 1}
    )
    for distilled, separate in ((True, False), (False, True)):
        pipe = SmallPipeline(small())
        pipe.is_distilled = distilled
        assert compile_adapter(spec, pipe).separate_cfg is separate
    assert compile_adapter(spec, SmallPipeline(small())).separate_cfg is None


def test_pruning() -> None:
    pipe = SmallPipeline(odd_models.Lists())
    settings = {"cache_type": "DBPrune", "Fn_compute_blocks": 1, "non_prune_block_ids": [2],
                "enable_dynamic_prune_threshold": True}  # fmt: skip
    plan = compile_adapter(adapter("Pattern_1"), pipe, cache_config=settings)
    (config,) = configs(plan.block_adapters()[0])
    assert isinstance(config, DBPruneConfig)
    assert list(config.non_prune_block_ids) == [2]
    assert config.enable_dynamic_prune_threshold is True


def test_placeholder_pipelines_are_of_their_own_class() -> None:
    """cache-dit marks their class: the mark must not reach anybody else's."""
    pipe = SmallPipeline(small())
    spec = adapter(cache={"Fn_compute_blocks": 1})
    one, other = (compile_adapter(spec, pipe).block_adapters()[0].pipe for _ in range(2))
    assert isinstance(one, FakeDiffusionPipeline)
    assert type(one) is not FakeDiffusionPipeline
    assert type(one) is not type(other)


def test_compiling_touches_nothing() -> None:
    pipe = SmallPipeline(small())
    before = {name: dict(vars(item)) for name, item in pipe.transformer.named_modules()}
    plan = compile_adapter(adapter(cache={"Fn_compute_blocks": 1}), pipe)
    plan.block_adapters(5)
    plan.describe(5)
    assert {name: dict(vars(item)) for name, item in pipe.transformer.named_modules()} == before
    assert "step" not in vars(pipe.scheduler)


def test_a_transformer_alone() -> None:
    spec = adapter(
        transformers={
            "other": {"class": ["Double"], "blocks": odd_models.Double.SPEC},
            "transformer": {"class": ["Small"], "blocks": {"blocks": "Pattern_3"}},
        },
        cache={"Fn_compute_blocks": 1},
    )
    for model, path in ((small(), "transformer"), (odd_models.Double(), "other")):
        plan = compile_adapter(spec, model)
        assert [item.path for item in plan.transformers] == [path]
        assert plan.pipeline is None
        with torch.no_grad():
            model(noise())
