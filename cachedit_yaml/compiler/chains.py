"""Lists with one decision a forward as cache-dit can have them: run as one list.

It then runs all blocks in the place of the first list and leaves the others empty, as its own
adapter for FLUX does. Whatever the loop does between the lists would come too late.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypeAlias

import torch

from cachedit_yaml.compiler.loops import adjoining
from cachedit_yaml.compiler.settings import Resolved

if TYPE_CHECKING:
    from cachedit_yaml.compiler.plan import ListPlan, TransformerPlan

#: Lists that take the same decision, in their order.
Chain: TypeAlias = "tuple[ListPlan, ...]"


def chains(plan: TransformerPlan) -> list[Chain]:
    """The lists of a transformer, those that follow one together with it."""
    found: dict[str, list[ListPlan]] = {}
    for item in plan.lists:
        found.setdefault(item.follows or item.path, []).append(item)
    return [tuple(items) for items in found.values()]


def why_apart(module: torch.nn.Module, chain: Chain) -> str | None:
    """Why cache-dit cannot run a chain as one list, in one sentence; None where it can.

    Args:
        module: the transformer.
        chain: lists that take the same decision.
    """
    first = chain[0]
    for before, item in itertools.pairwise(chain):
        why = None
        if item.pattern != first.pattern:
            why = f"it has {item.pattern.name}, and the other one {first.pattern.name}"
        elif not adjoining(module, before.path, item.path):
            why = f"forward does not go on with it right after {before.path}, in the same way"
        elif _calibrators(item) != _calibrators(first):
            why = "it has another calibrator"
        if why is not None:
            return f"{item.where}: cache-dit can only chain it to {first.path}, and {why}"
    return None


def _calibrators(item: ListPlan) -> list[object]:
    return [resolved.values["calibrator"] for resolved in item.layers.cases()]


def blocks_of(chain: Chain) -> torch.nn.ModuleList:
    """All blocks of a chain."""
    if len(chain) == 1:
        return chain[0].holder
    return torch.nn.ModuleList(block for item in chain for block in item.blocks)


def settings_of(chain: Chain, num_steps: int | None) -> Resolved:
    """The settings of a chain: the first list's, and the last one's B."""
    resolved = chain[0].layers.resolve(num_steps)
    last = chain[-1].layers.resolve(num_steps).values["Bn_compute_blocks"]
    return Resolved({**resolved.values, "Bn_compute_blocks": last}, resolved.origins)
