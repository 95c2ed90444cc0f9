"""The adapter of something live, and what to do where no adapter names its class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cachedit_yaml.compiler.wrappers import explain_wrapper, see_through
from cachedit_yaml.engines import engine_of
from cachedit_yaml.errors import AdapterNotFoundError, CacheditYamlError
from cachedit_yaml.registry.matching import Match
from cachedit_yaml.registry.registry import Registry


def match_live(registry: Registry, target: Any) -> Match:
    """Find the adapter that serves a pipeline, a transformer, or a class of either.

    Raises:
        AdapterNotFoundError: none does; says what to do where that is known.
        AdapterConflictError: two do, with the same right.
        AdapterError: the one that does is wrong.
    """
    cls = target if isinstance(target, type) else type(see_through(target))
    # An engine's own class may have the name of one of diffusers'.
    engine = engine_of(cls)
    try:
        return registry.match_pipeline(cls, engine)
    except AdapterNotFoundError as error:
        if not _is_module(cls):
            raise _with_advice(error, registry, target, engine) from None
    try:
        return registry.match_transformer(cls, engine)
    except AdapterNotFoundError as error:
        wrapped = explain_wrapper(target, "transformer")
        if wrapped is not None:
            raise AdapterNotFoundError(wrapped) from None
        raise _with_advice(error, registry, target, engine) from None


def _with_advice(
    error: AdapterNotFoundError, registry: Registry, target: Any, engine: str | None
) -> AdapterNotFoundError:
    """Add what its parts tell: their classes are often served where its own is not."""
    advice = list(_advice(registry, target, engine))
    if not advice:
        return error
    first, *rest = str(error).split("\n")
    return AdapterNotFoundError("\n".join([first, *(f"  {line}" for line in advice), *rest]))


def _advice(registry: Registry, target: Any, engine: str | None) -> Iterator[str]:
    if hasattr(target, "init_pipeline"):
        yield "these are blocks; give the pipeline that init_pipeline() makes of them"
    root = "transformer" if _is_module(type(target)) else "pipe"
    said: set[str] = set()
    for name, cls in _parts(target):
        try:
            match = registry.match_transformer(cls, engine)
        except CacheditYamlError:
            continue
        label = match.entry.label
        if label in said:
            continue
        said.add(label)
        how = f"enable(pipe, {label!r})"
        if name not in match.spec.transformers or _is_module(type(target)):
            how = f"enable_transformer({root}.{name}, {label!r})"
        if match.spec.refuse is not None:
            how = f"which refuses: {match.spec.refuse}"
        yield f"its {name} is a {cls.__name__}, served by {label} ({match.entry.shown}): {how}"


def _parts(target: Any) -> Iterator[tuple[str, type]]:
    """The modules of a pipeline by name; of a modular one also those that are not loaded yet."""
    from cachedit_yaml.compiler.wrappers import unwrap

    parts = getattr(target, "components", None)
    if not isinstance(parts, Mapping):
        held = getattr(target, "__dict__", {})
        parts = {**held, **held.get("_modules", {})}
    specs = getattr(target, "_component_specs", None) or {}
    for name, part in parts.items():
        cls = type(unwrap(part)) if part is not None else None
        cls = cls or getattr(specs.get(name), "type_hint", None)
        if isinstance(cls, type) and _is_module(cls) and not name.startswith("_"):
            yield name, cls


def _is_module(cls: type) -> bool:
    return any(base.__name__ == "Module" for base in cls.__mro__)
