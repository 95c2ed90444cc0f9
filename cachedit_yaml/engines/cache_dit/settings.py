"""The settings of an adapter that cache-dit runs, below those of the caller."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cachedit_yaml.compiler.chains import Chain
    from cachedit_yaml.compiler.plan import Plan
    from cachedit_yaml.compiler.settings import Layer, Resolved

logger = logging.getLogger(__name__)

#: Attribute of a BlockAdapter that says what it was compiled from.
PLAN: Final = "_cachedit_yaml_plan"


def with_settings(inner: Callable[..., Any]) -> Callable[..., Any]:
    """cache-dit's ``create_context``, with the adapter's settings below those of the caller."""

    @functools.wraps(inner)
    def create_context(cls: Any, block_adapter: Any, **context_kwargs: Any) -> Any:
        plan = getattr(block_adapter, PLAN, None)
        # With modifiers of the caller's own, cache-dit merges by its own rules.
        if plan is not None and block_adapter.params_modifiers is None:
            context_kwargs |= _settings(plan, block_adapter, context_kwargs)
        return inner(cls, block_adapter, **context_kwargs)

    return create_context


def _settings(plan: Plan, block_adapter: Any, given: dict[str, Any]) -> dict[str, Any]:
    """The config to enable with; sets a modifier for every list that cache-dit gets."""
    from cache_dit import DBCacheConfig, DBPruneConfig, ParamsModifier

    from cachedit_yaml.compiler.chains import chains
    from cachedit_yaml.compiler.from_config import is_reset, mapping_from_config
    from cachedit_yaml.compiler.settings import Layer
    from cachedit_yaml.rules.load import parse_settings
    from cachedit_yaml.runtime.masks import build_mask

    config = given["cache_config"]
    mapping = mapping_from_config(config)
    if isinstance(config, DBCacheConfig) and not is_reset(config):
        mapping.pop("cache_type", None)  # a default, not a choice
    layer = Layer("cache_config", parse_settings(mapping))
    steps, separate = config.num_inference_steps, config.enable_separate_cfg
    separate = bool(block_adapter.has_separate_cfg if separate is None else separate)
    modifiers: list[list[Any]] = []
    prune = False
    for transformer in plan.transformers:
        modifiers.append([])
        for chain in chains(transformer):
            item, resolved = chain[0], _merged(chain, layer, steps)
            if resolved.values["batch"] not in (None, "mean"):
                logger.warning(
                    "%s: batch is %r, and cache-dit decides by the mean of a batch; use "
                    "cachedit_yaml.enable(pipe)", item.where, resolved.values["batch"],
                )  # fmt: skip
            mask = None
            if resolved.scm is not None and (steps is None or len(plan.transformers) > 1):
                logger.warning(
                    "%s: its step mask is left out: cache-dit does not know how many steps this "
                    "transformer executes; use cachedit_yaml.enable(pipe), or give "
                    "num_inference_steps where there is one transformer", item.where,
                )  # fmt: skip
            else:
                mask = build_mask(resolved.scm, steps, item.where)
            calibrator = resolved.calibrator_config()
            modifiers[-1].append(
                ParamsModifier(
                    cache_config=resolved.cache_config(
                        steps, mask, separate_cfg=separate, owns_refresh=False
                    ),
                    calibrator_config=None if given.get("calibrator_config") else calibrator,
                )
            )
            prune = resolved.prune
    block_adapter.params_modifiers = modifiers
    base = DBPruneConfig() if prune else DBCacheConfig()
    base.enable_separate_cfg, base.num_inference_steps = separate, steps
    return {"cache_config": base}


def _merged(chain: Chain, layer: Layer, steps: int | None) -> Resolved:
    """The settings of lists that run as one: the first one's and the last one's B."""
    from cachedit_yaml.compiler.settings import Layers, Resolved

    first, last = (
        Layers((*item.layers.layers, layer)).resolve(steps) for item in (chain[0], chain[-1])
    )
    name = "Bn_compute_blocks"
    return Resolved(
        {**first.values, name: last.values[name]}, {**first.origins, name: last.origins[name]}
    )
