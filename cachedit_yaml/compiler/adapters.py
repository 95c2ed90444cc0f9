"""A plan as real ``cache_dit.BlockAdapter`` objects.

One for each transformer, because cache-dit pairs lists of several transformers by position and
mixes them up where their numbers differ. Everything is fully nested, and every list has its own
modifier, made from a ``reset`` config on copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from cache_dit import BlockAdapter, DBCacheConfig, DBPruneConfig, ForwardPattern, ParamsModifier
from cache_dit.caching.block_adapters import FakeDiffusionPipeline

from cachedit_yaml.compiler.chains import blocks_of, chains, settings_of, why_apart
from cachedit_yaml.errors import CompileError

if TYPE_CHECKING:
    from cachedit_yaml.compiler.plan import Plan, TransformerPlan


def block_adapters(plan: Plan, num_inference_steps: int | None = None) -> list[BlockAdapter]:
    """Build one adapter for each transformer of the plan."""
    return [
        block_adapter(plan, transformer, num_inference_steps) for transformer in plan.transformers
    ]


def nested(transformers: Sequence[TransformerPlan]) -> dict[str, Any]:
    """Arguments of a ``BlockAdapter`` that say which transformers and which lists."""
    lists = [chains(item) for item in transformers]
    return {
        "transformer": [item.module for item in transformers],
        "blocks": [[blocks_of(chain) for chain in each] for each in lists],
        "blocks_name": [[chain[0].path for chain in each] for each in lists],
        "dummy_blocks_names": [[x.path for chain in each for x in chain[1:]] for each in lists],
        "forward_pattern": [
            [ForwardPattern[chain[0].pattern.name] for chain in each] for each in lists
        ],
    }


def placeholder(module: torch.nn.Module) -> Any:
    """What stands for the pipeline of a transformer alone.

    cache-dit marks the class of this placeholder: a class of its own keeps the mark here.
    """
    # cache-dit leaves its flag on the class for good, where others made use of that.
    return type("TransformerOnly", (FakeDiffusionPipeline,), {"_is_cached": False})(module)


def block_adapter(
    plan: Plan, transformer: TransformerPlan, num_inference_steps: int | None
) -> BlockAdapter:
    """Build the adapter of one transformer.

    ``enable_separate_cfg`` is explicit in every modifier: what the adapter's guidance says, or
    False where guidance is observed in the run.

    Raises:
        CompileError: lists follow each other that cache-dit cannot run as one.
    """
    separate = bool(plan.separate_cfg)
    modifiers = []
    for chain in chains(transformer):
        problem = why_apart(transformer.module, chain)
        if problem is not None:
            raise CompileError("cache-dit cannot do what the adapter says:", [problem])
        resolved = settings_of(chain, num_inference_steps)
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
        **nested([transformer]),
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
