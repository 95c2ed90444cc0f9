"""What was given to the engine's config objects, which forget it.

The engine fills in defaults of its own. Afterwards a default cannot be told from the same value
given on purpose, which wins over an adapter.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

from cachedit_yaml.engines.late import GIVEN, wrap
from cachedit_yaml.errors import ConfigError
from cachedit_yaml.yaml.encoding import from_json

#: Where the engine looks for a backend that no argument names.
_VARIABLES: Final = ("DIFFUSION_CACHE_BACKEND", "DIFFUSION_CACHE_ADAPTER")


def remember_what_is_given(module: ModuleType) -> None:
    """Let config objects remember which fields were given, and copies of them too.

    The names stand among the parameters that the engine does not know, which every copy keeps. In
    a copy, what differs from the engine's defaults was given as well.

    Args:
        module: ``vllm_omni.diffusion.data``, imported.
    """
    cls = module.DiffusionCacheConfig
    names = [item.name for item in dataclasses.fields(cls)]

    def init(inner: Callable[..., None], self: Any, *args: Any, **kwargs: Any) -> None:
        inner(self, *args, **kwargs)
        given = {*names[: len(args)], *kwargs} - {"_extra_params"}
        before = self._extra_params.get(GIVEN)
        if before is not None:
            given = {*before, *differing(self)}
        self._extra_params = {**self._extra_params, GIVEN: frozenset(given)}

    wrap(cls, "__init__", init)
    wrap(module, "normalize_omni_diffusion_kwargs", _check_kwargs)


def differing(config: Any) -> dict[str, Any]:
    """The fields of a config object that differ from the engine's defaults."""
    found = {}
    for item in dataclasses.fields(config):
        default = item.default
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        value = getattr(config, item.name)
        if not item.name.startswith("_") and value != default:
            found[item.name] = value
    return found


def refuse_broken_text(module: ModuleType) -> None:
    """Let a ``cache_config`` that the engine cannot read stop its start.

    Args:
        module: ``vllm_omni.engine.omni_engine_base``, imported.
    """

    def normalise(inner: Callable[..., Any], backend: Any, config: Any) -> Any:
        check_text(backend, config)
        return inner(backend, config)

    holder = module.OmniEngineBase
    wrap(holder, "_normalize_cache_config", normalise)
    holder._normalize_cache_config = staticmethod(holder._normalize_cache_config)


def _check_kwargs(inner: Callable[..., Any], raw: Mapping[str, Any], **more: Any) -> Any:
    """Around ``normalize_omni_diffusion_kwargs``."""
    backend = raw.get("cache_backend") or next(filter(None, map(os.environ.get, _VARIABLES)), None)
    check_text(backend, raw.get("cache_config"))
    return inner(raw, **more)


def check_text(backend: object, config: object) -> None:
    """Check that the engine can read a ``cache_config``; with what it cannot, it starts without.

    Args:
        backend: the cache backend that reads it.
        config: what was given.

    Raises:
        ConfigError: it is no JSON, or no mapping.
    """
    if not isinstance(config, str) or str(backend).lower() != "cache_dit":
        return
    try:
        value = from_json(config)
    except ValueError as error:
        raise ConfigError(
            f"cache_config is no JSON: {error}; given was {config!r}, and wanted is text such as "
            '{"profile": "fast"}'
        ) from None
    if value is not None and not isinstance(value, dict):
        raise ConfigError(
            f'cache_config is no mapping, but {config!r}; write text such as {{"profile": "fast"}}'
        )
