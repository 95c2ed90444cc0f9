"""The adapter of something live, and what to do where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cachedit_yaml.compiler.wrappers import explain_wrapper, see_through
from cachedit_yaml.engines import engine_of
from cachedit_yaml.errors import AdapterNotFoundError, CacheditYamlError
from cachedit_yaml.registry.held import held, is_module, match_held
from cachedit_yaml.registry.matching import Match
from cachedit_yaml.registry.registry import Registry


def match_live(registry: Registry, target: Any) -> Match:
    """Find the adapter that serves a pipeline, a transformer, or a class of either.

    A pipeline that no adapter names is served by what it holds, where that is enough.

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
        if not is_module(cls):
            match = match_held(registry, target, engine)
            if match is not None:
                return match
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
        return
    said: set[str] = set()
    try:
        for item in held(registry, target, engine):
            label = item.match.entry.label
            if label in said:
                continue
            said.add(label)
            file = item.match.entry.shown
            if item.lacks is not None:
                where = f"its block list {item.lacks!r}"
                what = f"may not have {where}" if isinstance(target, type) else f"lacks {where}"
                yield f"{item}, as is served by {label} ({file}), but {what}"
            elif item.match.spec.refuse is not None:
                yield f"{item}, which {label} ({file}) refuses: {item.match.spec.refuse}"
            else:
                how = f"enable_transformer(transformer.{item.path}, {label!r})"
                yield f"{item}, served by {label} ({file}): {how}"
    except CacheditYamlError:
        return
