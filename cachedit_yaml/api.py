"""The public functions: enable caching for a pipeline or a transformer, compile an adapter."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from cachedit_yaml.engines import engine_of, engines
from cachedit_yaml.errors import AdapterNotFoundError, CacheRuntimeError, ConfigError
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.rules.load import settings_from
from cachedit_yaml.runtime.execution import start

if TYPE_CHECKING:
    import torch

    from cachedit_yaml.compiler.plan import Plan
    from cachedit_yaml.engines.protocol import Config
    from cachedit_yaml.registry.matching import Match
    from cachedit_yaml.registry.registry import Entry
    from cachedit_yaml.runtime.handle import Handle

#: An adapter by name, by path, or as plain data.
AdapterSource = str | os.PathLike[str] | Mapping[str, Any] | AdapterSpec
ExecutionName = Literal["loop", "native"]
#: In the place of an adapter: draft one where none serves the class.
AUTO: Final = "auto"


def load_adapter(
    source: AdapterSource, *, adapters: Sequence[str | Path] = (), engine: str | None = None
) -> AdapterSpec:
    """Load and validate one adapter.

    Args:
        source: a name, the path of a YAML file, ``org/repo`` on the hub, or plain data.
        adapters: more folders or files to look names up in.
        engine: the engine that asks; default: diffusers, or the first that the adapter serves.

    Raises:
        AdapterError: the YAML is wrong; carries every problem with its place.
        AdapterNotFoundError: no adapter has this name, or the hub gives none.
    """
    if isinstance(source, AdapterSpec):
        return source
    if not isinstance(source, (str, os.PathLike, Mapping)):
        raise ConfigError(f"an adapter is a name, a path or a mapping, not {type(source).__name__}")
    from cachedit_yaml.registry.registry import Registry

    return Registry.load(extra=adapters).get(source, engine)


def list_adapters(*, adapters: Sequence[str | Path] = ()) -> list[Entry]:
    """Every adapter that can be found: shipped ones, and those of the user.

    Args:
        adapters: more folders or files to look in.
    """
    from cachedit_yaml.registry.registry import Registry

    return Registry.load(extra=adapters).adapters()


def find_adapter(target: Any, *, adapters: Sequence[str | Path] = ()) -> AdapterSpec:
    """The adapter that serves a pipeline, a transformer or a class of either.

    Raises:
        AdapterNotFoundError: none does.
        AdapterConflictError: two do, with the same right.
    """
    return _match(target, adapters).spec


def _match(target: Any, adapters: Sequence[str | Path] = ()) -> Match:
    from cachedit_yaml.registry.live import match_live
    from cachedit_yaml.registry.registry import Registry

    return match_live(Registry.load(extra=adapters), target)


def compile_adapter(
    adapter: AdapterSource | None,
    pipeline: Any,
    *,
    cache_config: Any = None,
    profile: str | None = None,
) -> Plan:
    """Resolve an adapter against a live pipeline, without touching it.

    Args:
        adapter: name, path or data; None finds it by the pipeline's class, or by what it holds.
        pipeline: a live pipeline, or a transformer (``torch.nn.Module``) alone.
        cache_config: settings that win over profile and adapter: a mapping, or a cache-dit config.
        profile: one of the adapter's profiles.

    Raises:
        CacheditYamlError: see :mod:`cachedit_yaml.errors`.
    """
    try:
        from cachedit_yaml.compiler.compile import compile_adapter as compile_spec
        from cachedit_yaml.compiler.from_config import remarks_on_config
        from cachedit_yaml.compiler.modules import is_transformer
    except ModuleNotFoundError as error:
        raise CacheRuntimeError.not_installed("caching", error) from error
    notes = remarks_on_config(cache_config)
    settings = settings_from(cache_config)
    engine = engine_of(type(pipeline))
    config = read_config(adapter, engine)
    if config is not None:
        adapter, notes = config.adapter, [*notes, *config.notes]
        settings = dataclasses.replace(
            config.settings, **dict(settings.given() if settings else ())
        )
    if adapter is None:
        match = _match(pipeline)
        spec, note = match.spec, match.note
    else:
        spec, note = load_adapter(adapter, engine=engine), _note_on(adapter)
    notes += [note] if note else []
    alone = is_transformer(spec, pipeline)
    return compile_spec(
        spec,
        None if alone else pipeline,
        profile=profile,
        cache_config=settings,
        transformer=pipeline if alone else None,
        notes=notes,
    )


def _note_on(adapter: AdapterSource) -> str | None:
    if isinstance(adapter, AdapterSpec):
        from cachedit_yaml.registry.stranger import note_beside

        return note_beside(adapter.source)
    if not isinstance(adapter, str):
        return None  # without looking for files, as often as something is enabled
    from cachedit_yaml.registry.registry import Registry

    return Registry.load().note_on(adapter)


def read_config(source: object, engine: str | None = None) -> Config | None:
    """Read the config of an engine that a caller gave in the place of an adapter.

    Args:
        source: what a caller gave.
        engine: the engine that runs the model; default: diffusers.

    Returns:
        What it says; None if it is no such file, whatever else it is.

    Raises:
        AdapterError: it is one, and wrong; carries every error.
        ConfigError: a section has a key that the engine does not know.
    """
    found = (item.read_config(source, engine) for item in engines())
    return next((config for config in found if config is not None), None)


def enable(
    pipeline: Any,
    adapter: AdapterSource | None = None,
    *,
    cache_config: Any = None,
    profile: str | None = None,
    execution: ExecutionName = "loop",
) -> Handle:
    """Cache a pipeline as its adapter says, until the handle is disabled.

    Args:
        pipeline: a live diffusers pipeline (or any object with the adapter's attributes).
        adapter: name, path, ``org/repo`` on the hub, or data; None finds it by the pipeline's
            class, or by what it holds. ``"auto"`` does so too, and where no adapter serves it, it
            watches the first generation, which runs uncached, and caches from the second on, as far
            as what it saw can be proved (see :class:`~cachedit_yaml.drafting.auto.Automatic`). A
            file may hold sections of cache-dit as well, or only them (see ``docs/engines.md``): its
            ``cache_config`` is applied here, the rest by cache-dit.
        cache_config: settings that win over profile and adapter: a mapping such as
            ``{"residual_diff_threshold": 0.2}``, or a cache-dit config (see
            :func:`cachedit_yaml.rules.load.settings_from` for what counts of it).
        profile: one of the adapter's profiles.
        execution: ``loop`` hooks the blocks in their own loop; ``native`` installs the compiled
            BlockAdapters through cache-dit.

    Raises:
        CacheditYamlError: see :mod:`cachedit_yaml.errors`. The pipeline is then as before.
    """
    if adapter == AUTO:
        return enable_auto(pipeline, cache_config, profile, execution)
    plan = compile_adapter(adapter, pipeline, cache_config=cache_config, profile=profile)
    config = read_config(adapter)
    if config is None or not config.sections:
        return start(plan, execution)
    config.load()  # what is wrong in it is said before anything is touched
    handle = start(plan, execution)
    try:
        # After the cache, as cache-dit has it: its hooks go around ours.
        config.apply(plan)
    except BaseException:
        handle.disable()
        raise
    return handle


def enable_auto(
    pipeline: Any,
    cache_config: Any = None,
    profile: str | None = None,
    execution: str = "loop",
    *,
    told: bool = False,
) -> Handle:
    """:func:`enable` with ``"auto"``.

    Args:
        pipeline: a live pipeline, or a transformer alone.
        cache_config: as for :func:`enable`.
        profile: as for :func:`enable`.
        execution: as for :func:`enable`.
        told: the handle's ``refresh`` is called before each generation, as engines do it.

    Raises:
        CacheditYamlError: see :mod:`cachedit_yaml.errors`. The pipeline is then as before.
    """
    from cachedit_yaml.drafting.auto import automatic

    try:
        plan = compile_adapter(None, pipeline, cache_config=cache_config, profile=profile)
    except AdapterNotFoundError:
        more = {"cache_config": cache_config, "profile": profile, "execution": execution}
        return automatic(pipeline, more, told=told)
    return start(plan, execution)


def enable_transformer(
    transformer: torch.nn.Module,
    adapter: AdapterSource | None = None,
    *,
    cache_config: Any = None,
    profile: str | None = None,
    execution: ExecutionName = "loop",
) -> Handle:
    """Cache a transformer alone, for loops and engines without a diffusers pipeline.

    Steps and generations are read off the timesteps that the transformer is called with, or told
    with ``handle.refresh(num_inference_steps)`` before each generation.

    Args:
        transformer: a live transformer.
        adapter: name, path or data; None finds it by the transformer's class.
        cache_config: as for :func:`enable`.
        profile: one of the adapter's profiles.
        execution: as for :func:`enable`.

    Raises:
        CacheditYamlError: see :mod:`cachedit_yaml.errors`. The transformer is then as before.
    """
    return enable(
        transformer, adapter, cache_config=cache_config, profile=profile, execution=execution
    )


def disable(target: Any) -> bool:
    """Switch caching off for a pipeline or transformer, also where its handle was not kept.

    Args:
        target: what :func:`enable` was called with, or a transformer of it.

    Returns:
        Whether anything was switched off.
    """
    from cachedit_yaml.runtime.cached import handles_of

    handles = handles_of(target)
    for handle in handles:
        handle.disable()
    return bool(handles)


def handle_of(target: Any) -> Handle | None:
    """The handle of a cached pipeline or transformer; None where nothing is cached.

    Args:
        target: what :func:`enable` was called with, or a transformer of it.
    """
    from cachedit_yaml.runtime.cached import handles_of

    return next(iter(handles_of(target)), None)
