"""What somebody put in the place of a cached module after caching was enabled."""

from __future__ import annotations

import operator
from typing import Any

from cachedit_yaml.compiler.paths import MISSING, follow
from cachedit_yaml.compiler.plan import ListPlan, Plan, TransformerPlan
from cachedit_yaml.compiler.wrappers import explain_wrapper, see_through, unwrap

_AGAIN = "disable caching and enable it again"


def changes_of(plan: Plan) -> list[str]:
    """Say what is no longer where it was when a plan was made, one sentence each."""
    found = []
    for transformer in plan.transformers:
        found += _replaced(plan.pipeline, transformer)
        lists = () if transformer.gone else transformer.lists
        found += [text for item in lists if (text := changed_blocks(item)) is not None]
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
        return []
    if unwrap(now) is transformer.module:
        return [f"{explain_wrapper(now, where)}; it runs uncached"]
    return [f"{where} was replaced after caching was enabled, and runs uncached; {_AGAIN}"]


def changed_blocks(plan: ListPlan) -> str | None:
    """Say that a list holds other blocks than when it was hooked; None where it does not."""
    now = list(plan.holder)
    if len(now) == len(plan.blocks) and all(map(operator.is_, now, plan.blocks)):
        return None
    moved = sum(map(operator.is_not, now, plan.blocks))
    moved += abs(len(now) - len(plan.blocks))
    return f"{plan.where}: {moved} of its blocks were replaced after caching was enabled; {_AGAIN}"
