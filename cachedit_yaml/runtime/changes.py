"""What somebody put in the place of a cached module after caching was enabled."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import torch

from cachedit_yaml.compiler.paths import MISSING, follow
from cachedit_yaml.compiler.plan import ListPlan, Plan, TransformerPlan
from cachedit_yaml.compiler.wrappers import explain_wrapper, see_through, unwrap
from cachedit_yaml.errors import CompileError
from cachedit_yaml.runtime.patching import Patch

_AGAIN = "disable caching and enable it again"


def changes_of(plan: Plan) -> list[str]:
    """Say what is no longer where it was when a plan was made, one sentence each."""
    found = []
    for transformer in plan.transformers:
        found += _replaced(plan.pipeline, transformer)
        lists = () if transformer.gone else transformer.lists
        changed = (changed_blocks(transformer.module, item) for item in lists)
        found += [text for text in changed if text is not None]
    for path in plan.absent if plan.pipeline is not None else ():
        if follow(plan.pipeline, path) not in (None, MISSING):
            found.append(
                f"pipeline.{path} was added after caching was enabled, and runs uncached; {_AGAIN}"
            )
    return found


def _replaced(pipeline: Any, transformer: TransformerPlan) -> list[str]:
    if pipeline is None:
        return []
    where, now = f"pipeline.{transformer.path}", follow(pipeline, transformer.path)
    if now is None or now is MISSING:
        return [f"{where} was taken away after caching was enabled"]
    if see_through(now) is transformer.module:
        if transformer.module._compiled_call_impl is None:
            return []
        return [
            f"{where} was compiled as a whole after caching was enabled, so that no block of it "
            "can be skipped; compile its blocks instead: compile_repeated_blocks()"
        ]
    if unwrap(now) is transformer.module:
        return [f"{explain_wrapper(now, where)}; it runs uncached"]
    return [f"{where} was replaced after caching was enabled, and runs uncached; {_AGAIN}"]


def displaced(patches: Iterable[Patch]) -> list[str]:
    """Say which forwards were put back after caching was enabled, one sentence."""
    owners = [item.owner for item in patches if item.name == "forward" and item.displaced]
    if not owners:
        return []
    names = ", ".join(sorted({type(item).__name__ for item in owners}))
    return [
        f"the forward of {len(owners)} cached modules ({names}) was replaced after caching was "
        f"enabled, and nothing of them is skipped; {_AGAIN}"
    ]


def changed_blocks(module: torch.nn.Module, plan: ListPlan) -> str | None:
    """Say that a list holds other blocks than when it was hooked; None where it does not.

    Args:
        module: the transformer.
        plan: the list.

    Raises:
        BaseException: whatever a property on the way to it raises.
    """
    try:
        holder = follow(module, plan.path)
    except CompileError as error:
        # In a run, what a property of the model's own raises is for its caller.
        raise error.__cause__ or error from None
    if holder is None or holder is MISSING:
        return f"{plan.where} was taken away after caching was enabled; {_AGAIN}"
    now = list(holder)
    if len(now) == len(plan.blocks) and all(map(operator.is_, now, plan.blocks)):
        return None
    moved = sum(map(operator.is_not, now, plan.blocks))
    moved += abs(len(now) - len(plan.blocks))
    return f"{plan.where}: {moved} of its blocks were replaced after caching was enabled; {_AGAIN}"
