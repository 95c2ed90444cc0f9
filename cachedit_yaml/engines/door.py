"""The one rule of every door through which an engine comes to this package.

Where an adapter was found by class and the model cannot be cached with it, nobody asked for this
package: the engine goes its own way, and the log says why. What somebody asked for, an adapter by
its name or a setting, is an error.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from cachedit_yaml.errors import CacheRuntimeError, CompileError, ConfigError

if TYPE_CHECKING:
    from cachedit_yaml.compiler.plan import Plan
    from cachedit_yaml.language.spec import AdapterSpec, CacheSettings
    from cachedit_yaml.runtime.handle import Handle


def stays_with_the_engine(error: Exception, *, named: bool) -> bool:
    """Whether the engine's own code serves what could not be cached.

    Args:
        error: why it could not.
        named: somebody asked for the adapter, or for how it is run.
    """
    return not named and not isinstance(error, ConfigError)


def report(logger: logging.Logger, handle: Handle) -> None:
    """Log what the last request did; with ``adapter: auto``, why nothing is cached yet."""
    try:
        logger.info("cache of the last request: %s", handle.stats())
    except CacheRuntimeError as error:
        logger.info("%s", error)


def compile_for(
    spec: AdapterSpec,
    target: Any,
    *,
    profile: str | None,
    settings: CacheSettings,
    where: str,
    **more: Any,
) -> Plan:
    """Compile an adapter, and tell one that does not fit from settings that do not.

    Args:
        spec: the adapter.
        target: a live pipeline, or None where ``more`` holds a transformer.
        profile: one of the adapter's profiles, as it was asked for.
        settings: those that were asked for.
        where: what they stand in, for messages.
        more: as for ``compile_adapter``.

    Raises:
        ConfigError: the adapter fits without the settings, so they are wrong; names each.
        CompileError: the adapter does not fit.
        RefusedError: it says that the model must not be cached.
    """
    from cachedit_yaml.compiler.compile import compile_adapter

    try:
        return compile_adapter(spec, target, profile=profile, cache_config=settings, **more)
    except CompileError as error:
        if profile is None and not any(settings.given()):
            raise
        try:
            compile_adapter(spec, target, **more)
        except CompileError:
            raise error from None
        lines = "\n  ".join(error.problems or (str(error),))
        raise ConfigError(f"{where} does not fit the model: {lines}") from error
