"""A cache backend for engines that hold no vLLM-Omni: the same config, the same code."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cachedit_yaml.engines.door import report
from cachedit_yaml.errors import ConfigError

if TYPE_CHECKING:
    from cachedit_yaml.runtime.handle import Handle
    from cachedit_yaml.runtime.stats import Stats

logger = logging.getLogger(__name__)


class CacheDiTBackend:
    """Switch caching on and off for an engine's pipelines.

    Args:
        cache_config: ``adapter``, ``profile``, ``execution`` and settings, as for vLLM-Omni's own
            (see ``docs/engines.md``).

    Raises:
        ConfigError: a key that nobody knows, or a value that it cannot have.
    """

    def __init__(self, cache_config: Mapping[str, Any] | None = None) -> None:
        from cachedit_yaml.engines.request import ENGINE
        from cachedit_yaml.engines.vllm_omni.settings import read

        self.config = dict(cache_config or {})
        self._request = read(self.config)
        self._settings = self._request.settings()
        if self._request.adapter == ENGINE:
            raise ConfigError("adapter: engine leaves a model to vLLM-Omni, which is not in charge")
        self._handles: dict[int, Handle] = {}

    def enable(self, pipeline: Any) -> None:
        """Cache a pipeline.

        Raises:
            CacheditYamlError: see :mod:`cachedit_yaml.errors`. The pipeline is then as before.
        """
        from cachedit_yaml.api import AUTO, compile_adapter, enable_auto
        from cachedit_yaml.runtime.execution import start

        asked = self._request
        if asked.adapter == AUTO:
            self._handles[id(pipeline)] = enable_auto(
                pipeline, self._settings, asked.profile, asked.execution, told=True
            )
            return
        plan = compile_adapter(
            self._request.adapter,
            pipeline,
            cache_config=self._settings,
            profile=self._request.profile,
        )
        self._handles[id(pipeline)] = start(plan, self._request.execution)

    def refresh(self, pipeline: Any, num_inference_steps: int | None, verbose: bool = True) -> None:
        """Begin a generation with the pipeline's next forward.

        Args:
            pipeline: an enabled pipeline.
            num_inference_steps: steps that it executes, or None where the engine does not know.
            verbose: log what the last generation did.
        """
        handle = self._handles.get(id(pipeline))
        if handle is None:
            logger.warning("%s is not cached; nothing to refresh", type(pipeline).__name__)
            return
        if verbose:
            report(logger, handle)
        handle.refresh(num_inference_steps or None)

    def disable(self, pipeline: Any) -> None:
        """Restore a pipeline. Without caching on it does nothing."""
        handle = self._handles.pop(id(pipeline), None)
        if handle is not None:
            handle.disable()

    def is_enabled(self) -> bool:
        """Whether any pipeline is cached by this backend."""
        return any(handle.enabled for handle in self._handles.values())

    def stats(self, pipeline: Any) -> Stats:
        """What the last generation of a pipeline did.

        Raises:
            KeyError: it is not cached by this backend.
            CacheRuntimeError: with ``adapter: auto``, nothing is cached; says why.
        """
        return self._handles[id(pipeline)].stats()
