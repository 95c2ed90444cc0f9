"""A plan as real ``cache_dit.BlockAdapter`` objects.

One for each transformer, because cache-dit pairs lists of several transformers by position and
mixes them up where their numbers differ. Everything is fully nested, and every list has its own
modifier, made from a ``reset`` config on copies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cache_dit
from cache_dit import BlockAdapter, DBCacheConfig, DBPruneConfig, ForwardPattern, ParamsModifier
from cache_dit.caching.block_adapters import FakeDiffusionPipeline

if TYPE_CHECKING:
    from cachedit_yaml.compiler.plan import Plan, TransformerPlan


def block_adapters(plan: Plan, num_inference_steps: int | None = None) -> list[BlockAdapter]:
    """Build one adapter for each transformer of the plan."""
    return [
        block_adapter(plan, transformer, num_inference_steps) for transformer in plan.transformers
    ]


def block_adapter(
    plan: Plan, transformer: TransformerPlan, num_inference_steps: int | None
) -> BlockAdapter:
    """Build the adapter of one transformer.

    ``enable_separate_cfg`` is explicit in every modifier: what the adapter's guidance says, or
    False where guidance is observed in the run.
    """
    # cache-dit marks the class of this placeholder: a class of its own keeps the mark here.
    placeholder = type("TransformerOnly", (FakeDiffusionPipeline,), {})
    separate = bool(plan.separate_cfg)
    modifiers = []
    for item in transformer.lists:
        resolved = item.layers.resolve(num_inference_steps)
        modifiers.append(
            ParamsModifier(
                cache_config=resolved.cache_config(
                    num_inference_steps, None, separate_cfg=separate, owns_refresh=False
                ),
                calibrator_config=resolved.calibrator_config(),
            )
        )
    return BlockAdapter(
        pipe=placeholder(transformer.module),
        transformer=[transformer.module],
        blocks=[[item.holder for item in transformer.lists]],
        blocks_name=[[item.path for item in transformer.lists]],
        forward_pattern=[[ForwardPattern[item.pattern.name] for item in transformer.lists]],
        params_modifiers=[modifiers],
        # The compiler has checked names, roles and classes; cache-dit's check knows no roles.
        check_forward_pattern=False,
        check_num_outputs=False,
        has_separate_cfg=separate,
    )


def base_config(plan: Plan, transformer: TransformerPlan) -> DBCacheConfig | DBPruneConfig:
    """The config to enable an adapter with: the modifiers say everything but the type."""
    prune = transformer.lists[0].layers.resolve(None).prune
    config = DBPruneConfig() if prune else DBCacheConfig()
    config.enable_separate_cfg = bool(plan.separate_cfg)
    return config


__all__ = ["base_config", "block_adapter", "block_adapters", "cache_dit"]
