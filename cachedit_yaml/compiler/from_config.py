"""A cache-dit config object, as settings of the language."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from cache_dit.caching.cache_contexts.cache_config import BasicCacheConfig

from cachedit_yaml.compiler.settings import EXPRESSED_ELSEWHERE
from cachedit_yaml.errors import ConfigError


def mapping_from_config(config: Any) -> dict[str, Any]:
    """What a cache-dit config says.

    Of a config that came from ``reset()`` that is every field that is not None. Any other holds its
    class's defaults too, and nothing tells which of them were meant: there the fields that differ
    from the defaults count (see :func:`remarks_on_config`).

    Raises:
        ConfigError: the object is not a cache-dit config.
    """
    if not isinstance(config, BasicCacheConfig):
        raise ConfigError(
            "cache_config must be a mapping, a DBCacheConfig or a DBPruneConfig, "
            f"not {type(config).__name__}"
        )
    default = type(config)()
    whole = is_reset(config)
    given: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if isinstance(value, torch.Tensor):
            value = value.item()
        if item.name in EXPRESSED_ELSEWHERE or value is None:
            continue
        if whole or value != getattr(default, item.name):
            given[item.name] = value
    if config.cache_type is not None:
        given["cache_type"] = str(config.cache_type)
    policy = config.steps_computation_policy
    if config.steps_computation_mask is not None:
        mask = list(config.steps_computation_mask)
        given["scm"] = {"mask": mask, "policy": policy or "dynamic"}
    elif policy not in (None, default.steps_computation_policy):
        raise ConfigError(
            f"cache_config has steps_computation_policy {policy!r} and no steps_computation_mask; "
            "give both, or a mapping with scm: {preset: ..., policy: ...}"
        )
    return given


def is_reset(config: BasicCacheConfig) -> bool:
    """Whether a config came from ``reset()``, which sets everything that is not given to None."""
    default = type(config)()
    return any(
        getattr(config, item.name) is None and getattr(default, item.name) is not None
        for item in dataclasses.fields(config)
    )


def remarks_on_config(config: Any) -> list[str]:
    """What somebody should know who passes a cache-dit config."""
    if not isinstance(config, BasicCacheConfig):
        return []
    remarks = []
    if not is_reset(config):
        name = type(config).__name__
        remarks.append(
            f"cache_config: fields of {name} that equal its defaults count as not given; pass a "
            f"mapping or {name}().reset(...) to set them"
        )
    if config.enable_separate_cfg is not None:
        remarks.append("cache_config: enable_separate_cfg is left to the run, which shows it")
    if config.num_inference_steps is not None:
        remarks.append("cache_config: num_inference_steps is left to the run, which shows it")
    return remarks
