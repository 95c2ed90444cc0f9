"""Whose loop calls a transformer: read off the functions that are running.

Pipelines share transformers (`from_pipe`, ``Pipe(**pipe.components)``, one scheduler a request).
Only the loop knows which of them it belongs to: the pipeline is its ``self``, the scheduler one of
its variables. Looking at them costs a few microseconds a forward and changes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final, NamedTuple

import torch

from cachedit_yaml.compiler.wrappers import see_through

#: Modules whose functions stand between a loop and the transformer that it calls.
_BETWEEN: Final = ("torch.", "cachedit_yaml.runtime", "accelerate.", "contextlib", "functools")
#: How far a loop is looked for.
_MOST: Final = 24
#: What Modular diffusers' guiders write the name of a branch to.
_GUIDED: Final = "__guidance_identifier__"


class Caller(NamedTuple):
    """The loop that calls a transformer.

    Attributes:
        pipeline: what holds the transformer and its scheduler; None where no such thing is seen.
        scheduler: the scheduler that the loop works with; None where none is seen.
        branch: the name that a guider gives this forward.
        others: schedulers that are there too: that of an inversion beside that of the sampling.
    """

    pipeline: Any = None
    scheduler: Any = None
    branch: str | None = None
    others: tuple[Any, ...] = ()


def caller_of(module: torch.nn.Module, leaf: str) -> Caller:
    """Look for the loop that calls a transformer, from the caller's caller on.

    Args:
        module: the transformer.
        leaf: the attribute in which a pipeline holds its scheduler.
    """
    branch, seen = None, {}
    for frame in _frames(sys._getframe(2)):
        local = _variables(frame)
        own = local.get("self")
        if _holds(own, module, leaf):
            if branch is None and hasattr(own, "guider"):
                branch = _branch_in(local)
            scheduler = getattr(own, leaf)
            return Caller(own, scheduler, branch, _others(scheduler, local, own))
        branch = branch or _branch_in(local)
        pipeline = next((item for item in local.values() if _holds(item, module, leaf)), None)
        loose = {id(item): item for item in local.values() if is_scheduler(item)}
        if pipeline is not None:
            loose.setdefault(0, getattr(pipeline, leaf))
        if loose and (pipeline is not None or len(loose) == 1):
            # A function that takes both works with the scheduler that it was given.
            scheduler = next(iter(loose.values()))
            return Caller(pipeline, scheduler, branch, _others(scheduler, local, pipeline))
        seen.update(loose)
    return Caller(branch=branch, others=tuple(seen.values()))


def is_scheduler(value: Any) -> bool:
    """Whether something has the methods of a diffusers scheduler."""
    cls = type(value)
    if cls.__module__ == "builtins" or isinstance(value, (torch.Tensor, torch.nn.Module, type)):
        return False
    return callable(getattr(cls, "set_timesteps", None)) and callable(getattr(cls, "step", None))


def _others(scheduler: Any, local: dict[str, Any], pipeline: Any) -> tuple[Any, ...]:
    """The schedulers among a function's variables, and of its pipeline, but for one."""
    held = getattr(pipeline, "__dict__", {})
    found = {id(item): item for item in (*local.values(), *held.values()) if is_scheduler(item)}
    found.pop(id(scheduler), None)
    return tuple(found.values())


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    for _ in range(_MOST):
        if frame is None:
            return
        if not str(frame.f_globals.get("__name__", "")).startswith(_BETWEEN):
            yield frame
        frame = frame.f_back


def _variables(frame: FrameType) -> dict[str, Any]:
    """The variables of a function; of a module, those that its code names."""
    local = frame.f_locals
    code = frame.f_code
    if local is frame.f_globals:
        return {name: local[name] for name in code.co_names if name in local}
    return dict(local)


def _branch_in(local: dict[str, Any]) -> str | None:
    for value in local.values():
        if type(value).__name__ == "BlockState":
            name = getattr(value, _GUIDED, None)
            if isinstance(name, str):
                return name
    return None


def _holds(value: Any, module: torch.nn.Module, leaf: str) -> bool:
    """Whether something holds the transformer as an attribute, and a scheduler beside it.

    What wraps it holds it too, and has no scheduler.
    """
    attributes = getattr(value, "__dict__", None)
    if not isinstance(attributes, dict) or isinstance(value, type) or value is module:
        return False
    children = attributes.get("_modules")
    parts = [*attributes.values(), *(children.values() if isinstance(children, dict) else ())]
    held = any(item is module for item in parts) or any(
        isinstance(item, torch.nn.Module)
        and type(item) is not type(module)
        and see_through(item) is module
        for item in parts
    )
    return held and getattr(value, leaf, None) is not None
