"""A cache-dit config object, as settings of the language."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from cache_dit.caching.cache_contexts.cache_config import BasicCacheConfig

from cachedit_yaml.compiler.settings import EXPRESSED_ELSEWHERE
from cachedit_yaml.errors import ConfigError


def mapping_from_config(config: Any) -> dict[str, Any]:
    """The fields of a cache-dit config that differ from its class's defaults.

    Raises:
        ConfigError: the object is not a cache-dit config.
    """
    if not isinstance(config, BasicCacheConfig):
        raise ConfigError(
            "cache_config must be a mapping, a DBCacheConfig or a DBPruneConfig, "
            f"not {type(config).__name__}"
        )
    default = type(config)()
    given: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if isinstance(value, torch.Tensor):
            value = value.item()
        if item.name in EXPRESSED_ELSEWHERE or value is None:
            continue
        if value != getattr(default, item.name):
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
