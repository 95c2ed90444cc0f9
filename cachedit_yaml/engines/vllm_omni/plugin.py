"""The plugins, which run in every process of the engine.

They import neither torch nor cache-dit: most processes never build a pipeline. Where one does, the
engine imports its Cache-DiT package first, and everything else happens then.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final

from cachedit_yaml.engines.late import GIVEN, when_imported

#: Below the engine's own logger, so that the engine's handlers and levels apply.
logger = logging.getLogger("vllm_omni.cachedit_yaml")

BACKEND: Final = "vllm_omni.diffusion.cache.cachedit"
CONFIG: Final = "vllm_omni.diffusion.data"

_watching = _registered = False


def register() -> None:
    """Put the adapters into vLLM-Omni. Calling it again does nothing."""
    global _registered
    if _registered:
        return
    _registered = True
    watch()
    when_imported(BACKEND, _fill_table)


def watch() -> None:
    """Watch the engine's config objects being made, which the engine does before it loads plugins.

    The engine calls this, as a plugin of ``vllm_omni.platform_plugins``, when it looks for the
    platform that it runs on. None says: not this one.
    """
    global _watching
    if not _watching:
        _watching = True
        when_imported(CONFIG, _remember_what_is_given)


def _remember_what_is_given(module: ModuleType) -> None:
    """Let config objects remember which fields were given.

    The engine fills in defaults of its own, and afterwards a default cannot be told from the same
    value given on purpose, which wins over an adapter.
    """
    cls = module.DiffusionCacheConfig
    inner = cls.from_dict.__func__

    @functools.wraps(inner)
    def from_dict(cls: type[Any], data: Mapping[str, Any]) -> Any:
        config = inner(cls, data)
        config.__dict__[GIVEN] = frozenset(data)
        return config

    cls.from_dict = classmethod(from_dict)


def _fill_table(module: ModuleType) -> None:
    from cachedit_yaml.engines.vllm_omni.enabler import install

    names = install(module)
    logger.info("cachedit-yaml serves %d pipeline classes: %s", len(names), ", ".join(names))
