"""diffusers: load a pipeline and cache it, in one call."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachedit_yaml.api import AUTO, AdapterSource, ExecutionName, enable, load_adapter, read_config
from cachedit_yaml.errors import CacheRuntimeError, ConfigError, RefusedError
from cachedit_yaml.rules.load import settings_from
from cachedit_yaml.yaml.encoding import from_json

if TYPE_CHECKING:
    from cachedit_yaml.language.spec import AdapterSpec


def from_pretrained(
    folder_or_id: str | os.PathLike[str],
    adapter: AdapterSource | None = None,
    *,
    cache_config: Any = None,
    profile: str | None = None,
    execution: ExecutionName = "loop",
    pipeline_class: Any = None,
    **kwargs: Any,
) -> Any:
    """Load a diffusers pipeline and cache it.

    What can be known beforehand is checked before the weights are loaded.

    Args:
        folder_or_id: as for ``DiffusionPipeline.from_pretrained``.
        adapter: as for :func:`cachedit_yaml.enable`; None takes ``cachedit.yaml`` in the folder
            first, if there is one.
        cache_config: as for :func:`cachedit_yaml.enable`.
        profile: one of the adapter's profiles.
        execution: as for :func:`cachedit_yaml.enable`.
        pipeline_class: the class to load with, where it is not the one that the model names:
            ``FluxImg2ImgPipeline``, ``AutoPipelineForText2Image``.
        kwargs: for the ``from_pretrained`` of diffusers. Weights are safetensors, unless
            ``use_safetensors`` says otherwise.

    Returns:
        The pipeline. ``cachedit_yaml.handle_of(pipeline)`` is the handle of its cache.

    Raises:
        CacheditYamlError: see :mod:`cachedit_yaml.errors`.
    """
    try:
        import diffusers
    except ModuleNotFoundError as error:
        raise CacheRuntimeError.not_installed("from_pretrained()", error) from error
    where = _place(folder_or_id)
    if adapter is None and (beside := _beside(where)) is not None:
        adapter = beside
    _check(where, adapter, cache_config, profile, execution, pipeline_class)
    cls = pipeline_class or diffusers.DiffusionPipeline
    # A pickle runs what its author wrote; who wants one says so.
    pipeline = cls.from_pretrained(where, **{"use_safetensors": True, **kwargs})
    enable(pipeline, adapter, cache_config=cache_config, profile=profile, execution=execution)
    return pipeline


def _place(folder_or_id: str | os.PathLike[str]) -> str:
    """A folder as it is, or an id on the hub.

    Raises:
        ConfigError: it is the path of a folder, and there is none.
    """
    where = os.path.expanduser(os.fspath(folder_or_id))
    is_path = not isinstance(folder_or_id, str) or where.startswith((os.sep, "."))
    if is_path and not os.path.isfile(Path(where, "model_index.json")):
        what = "holds no pipeline: it has no model_index.json"
        if not os.path.isdir(Path(where)):
            what = "is a file" if os.path.exists(Path(where)) else "does not exist"
        raise ConfigError(f"{where} {what}; give the folder of a diffusers pipeline, or an id")
    return where


def _beside(where: str) -> AdapterSpec | None:
    """The adapter in the model's own folder.

    Raises:
        AdapterError: it is wrong.
    """
    from cachedit_yaml.registry.registry import Registry

    entry = Registry.load().beside(where)
    return None if entry is None else entry.spec


def _check(
    where: str,
    adapter: AdapterSource | None,
    cache_config: Any,
    profile: str | None,
    execution: str,
    cls: Any,
) -> None:
    """Find out what is wrong before minutes of loading."""
    from cachedit_yaml.compiler.settings import find_profile

    if execution not in ("loop", "native"):
        raise ConfigError(f"execution must be 'loop' or 'native', not {execution!r}")
    settings_from(cache_config)
    if adapter == AUTO:
        return  # what serves it is seen when it is there
    config = read_config(adapter)
    spec = None
    if config is not None:
        spec = config.adapter
    elif adapter is not None:
        spec = load_adapter(adapter)
    if spec is None and (adapter is None or config is not None):
        spec = _by_class(where, cls)
    if spec is None:
        return
    if spec.refuse is not None:
        raise RefusedError(f"{spec.name}: must not be cached: {spec.refuse}")
    if profile is not None:
        find_profile(spec, profile)


def _by_class(where: str, cls: Any) -> AdapterSpec | None:
    """The adapter of the class that will be loaded, where that can be told."""
    import diffusers

    from cachedit_yaml.registry.live import match_live
    from cachedit_yaml.registry.registry import Registry

    if cls is None:
        try:
            index = from_json(Path(where, "model_index.json").read_text(encoding="utf-8"))
            name = index["_class_name"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        cls = getattr(diffusers, name, None) if isinstance(name, str) else None
    # AutoPipeline picks a class when it sees the model.
    if not isinstance(cls, type) or not issubclass(cls, diffusers.DiffusionPipeline):
        return None
    return match_live(Registry.load(), cls).spec
