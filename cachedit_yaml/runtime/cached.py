"""Which transformers are cached, and by which handle."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

import torch

from cachedit_yaml.compiler.plan import Plan
from cachedit_yaml.errors import CompileError

if TYPE_CHECKING:
    from cachedit_yaml.runtime.handle import Handle

# A hook of somebody else's (offloading) may hide ours, so cached transformers are listed too. Their
# hooks keep the handle alive, not this list.
CACHED: Final[weakref.WeakKeyDictionary[torch.nn.Module, weakref.ref[Handle]]] = (
    weakref.WeakKeyDictionary()
)
#: Pipelines that are watched before they are cached, with what watches them.
WATCHED: Final[weakref.WeakKeyDictionary[Any, weakref.ref[Any]]] = weakref.WeakKeyDictionary()


def handles_of(target: Any) -> list[Handle]:
    """The handles that are on for a transformer, or for what holds transformers."""
    held = [target, *vars(target).values()] if hasattr(target, "__dict__") else [target]
    if isinstance(target, torch.nn.Module):
        held += target.modules()
    found: dict[int, Handle] = {}
    automatic = _watching(target)
    if automatic is not None:
        return [automatic]
    for module, reference in list(CACHED.items()):
        handle = reference()
        if handle is None:
            continue
        if handle.plan.pipeline is target or any(module is item for item in held):
            found[id(handle)] = handle
    return list(found.values())


def _watching(target: Any) -> Any:
    """What watches a pipeline before it is cached; None where nothing does."""
    try:
        found = WATCHED.get(target)
    except TypeError:  # what cannot be watched either
        return None
    automatic = None if found is None else found()
    return automatic if automatic is not None and automatic.enabled else None


def refuse_if_cached(plan: Plan) -> None:
    """Refuse a transformer that is cached already, by us, by cache-dit or by diffusers.

    One that is compiled as a whole is refused too: nothing could skip a block of it.

    Raises:
        CompileError: names the one that has to be switched off first.
    """
    problems = []
    if _watching(plan.pipeline) is not None:
        problems.append("the pipeline is watched by enable(..., 'auto'); call its disable() first")
    for transformer in plan.transformers:
        module, where = transformer.module, f"pipeline.{transformer.path}"
        if module in CACHED:
            problems.append(
                f"{where} is cached already; call disable() on its "
                "handle, or cachedit_yaml.disable(pipeline)"
            )
        elif getattr(module, "_is_cached", False):
            problems.append(f"{where} is cached by cache-dit; call cache_dit.disable_cache first")
        elif getattr(module, "is_cache_enabled", False):
            problems.append(f"{where} is cached by diffusers; call its disable_cache() first")
        elif module._compiled_call_impl is not None or type(module).__name__ == "OptimizedModule":
            problems.append(
                f"{where} is compiled as a whole, which no cache can look into; compile its blocks "
                "instead: compile_repeated_blocks()"
            )
    if problems:
        raise CompileError("caching cannot be enabled:", problems)
