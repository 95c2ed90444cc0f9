"""``install(auto=True)``: pipelines that neither cache-dit nor an adapter knows."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable
from typing import Any

from cachedit_yaml.engines.late import around

logger = logging.getLogger(__name__)


class Unnamed:
    """Stands around cache-dit's ``enable_cache`` and ``disable_cache`` while it is installed.

    Args:
        known: whether cache-dit's table has something for a target.
    """

    def __init__(self, known: Callable[[Any], bool]) -> None:
        self._known = known
        self._before: list[tuple[Any, str, Any]] = []

    def install(self) -> None:
        """Put both in the place of cache-dit's, wherever its package holds them."""
        from cache_dit.caching import cache_interface

        for name, hook in (("enable_cache", self._enable), ("disable_cache", self._disable)):
            inner = getattr(cache_interface, name)
            places = [
                (module, key, inner)
                for path, module in list(sys.modules.items())
                if path == "cache_dit" or path.startswith("cache_dit.")
                for key, value in list(getattr(module, "__dict__", {}).items())
                if value is inner
            ]
            around(cache_interface, name, hook)
            self._before += places

    def remove(self) -> None:
        """Give cache-dit its own functions back."""
        for module, name, inner in self._before:
            setattr(module, name, inner)
        self._before = []

    def _enable(self, inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        from cache_dit import BlockAdapter

        from cachedit_yaml.api import enable_auto

        target = args[0] if args else kwargs.get("pipe_or_adapter")
        if target is None or isinstance(target, BlockAdapter) or self._known(target):
            return inner(*args, **kwargs)
        given = inspect.signature(inner).bind(*args, **kwargs).arguments
        config = given.get("cache_config")
        others = [name for name in given if name not in ("pipe_or_adapter", "cache_config")]
        if others:
            logger.warning("auto: %s is left out for %s", ", ".join(others), type(target).__name__)
        enable_auto(target, config)
        return target

    def _disable(self, inner: Callable[..., Any], target: Any) -> Any:
        from cachedit_yaml.api import handle_of

        handle = handle_of(target)
        if handle is None:
            return inner(target)
        handle.disable()
        return None
