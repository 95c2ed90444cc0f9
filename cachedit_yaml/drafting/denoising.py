"""What tells a module's denoising calls from its others, as an adapter's `denoising` says it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch

from cachedit_yaml.drafting.parts import parameters
from cachedit_yaml.drafting.record import Forward

#: Flags that say that a call fills a cache, rather than denoises.
_FILLS: Final = re.compile(
    r"((update|return|write|fill|store|save|append)_(\w+_)?(cache|kv|past)|(\w+_)?prefill)(_\w+)?"
)
_TENSOR: Final = object()


def denoising_of(calls: Sequence[Forward]) -> dict[str, Any]:
    """What tells calls that are no steps: those that run once, and those that fill a cache.

    Args:
        calls: of one module.

    Returns:
        `when` or `unless` with the argument and its value; empty where nothing tells, or need to.
    """
    return _filling(calls) or _once(calls)


def _once(calls: Sequence[Forward]) -> dict[str, Any]:
    """What tells calls that run once from those of every step."""
    if len({call.step for call in calls}) < 2:
        return {}
    names = {name for call in calls for name in call.literals}
    for name in sorted(names):
        given = [call.literals.get(name, _TENSOR) for call in calls]
        if any(isinstance(value, float) for value in given):
            continue
        by_value: dict[Any, set[int]] = {}
        for value, call in zip(given, calls, strict=True):
            by_value.setdefault(value, set()).add(call.step)
        every = {call.step for call in calls}
        usual = [value for value, steps in by_value.items() if steps == every]
        once = [value for value, steps in by_value.items() if len(steps) == 1]
        if len(usual) != 1 or len(by_value) != 2 or len(once) != 1:
            continue
        if usual[0] is _TENSOR or usual[0] is None:
            return {"unless": {name: once[0]}}
        return {"when": {name: usual[0]}}
    return {}


def _filling(calls: Sequence[Forward]) -> dict[str, Any]:
    """What tells calls whose blocks write to a cache from the steps beside which they run."""
    others = [call for call in calls if not call.writes]
    filling = [call for call in calls if call.writes]
    if not filling or not {call.step for call in filling} <= {call.step for call in others}:
        return {}  # none, or steps of their own
    for name in sorted({name for call in calls for name in call.literals}):
        usual, odd = (
            {call.literals.get(name, _TENSOR) for call in part} for part in (others, filling)
        )
        if usual & odd or _TENSOR in usual | odd:
            continue
        if len(usual) == 1:
            return {"when": {name: usual.pop()}}
        if len(odd) == 1:
            return {"unless": {name: odd.pop()}}
    return {}


def holds(denoising: Mapping[str, Any], call: Forward) -> bool:
    """Whether a call is a denoising one."""
    when, unless = denoising.get("when", {}), denoising.get("unless", {})
    return all(
        call.literals.get(name, _TENSOR) == value for name, value in when.items()
    ) and not any(call.literals.get(name, _TENSOR) == value for name, value in unless.items())


def unseen(module: torch.nn.Module, calls: Sequence[Forward]) -> dict[str, Any]:
    """A flag by whose name a call fills a cache, and which was off in every call.

    Args:
        module: what is called.
        calls: its denoising calls.

    Returns:
        `when` with the flag off, so that the calls that were not seen run uncached; or empty.
    """
    for name, parameter in parameters(module).items():
        if _FILLS.fullmatch(name) and all(
            call.literals.get(name, parameter.default) is False for call in calls
        ):
            return {"when": {name: False}}
    return {}
