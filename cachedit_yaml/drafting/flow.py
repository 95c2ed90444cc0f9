"""Which arguments of a block carry what the block before it returned."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cachedit_yaml.drafting.record import BlockCall, Forward

#: Names of arguments, and what cache-dit calls them.
HIDDEN: Final = "hidden_states"
ENCODER: Final = "encoder_hidden_states"


@dataclass(frozen=True)
class Flow:
    """Which arguments carry what the block before returned.

    Attributes:
        hidden: the argument with the hidden states, and the place in the output.
        encoder: the same of the encoder hidden states, or of a state.
        state: the second is no tensor, or passes through as it is.
        changed: the loop changes the hidden states between two blocks.
        doubt: why one may have been taken for the other; empty for none.
    """

    hidden: tuple[str, str]
    encoder: tuple[str, str] | None
    state: bool
    changed: bool
    doubt: str


def moving_arguments(key: str, forwards: Sequence[Forward]) -> set[str]:
    """The arguments of the first block that change from step to step, in some guidance branch."""
    together = len({forward.step for forward in forwards}) == 1  # no scheduler tells the steps
    marks: dict[str, dict[int, set[tuple[float, ...]]]] = {}
    for number, forward in enumerate(forwards):
        for calls in forward.passes(key)[:1]:
            for name, item in calls[0].tensors.items():
                step = number if together else forward.step
                marks.setdefault(name, {}).setdefault(step, set()).add(item.mark)
    return {
        name for name, steps in marks.items() if len({frozenset(x) for x in steps.values()}) > 1
    }


def flow_of(passes: Sequence[Sequence[BlockCall]], moving: set[str]) -> Flow | None:
    """Find the streams that run through a list of blocks.

    Args:
        passes: runs through the whole list.
        moving: arguments of the first block that change from step to step.

    Returns:
        The streams; None where no block takes what the one before it returned.
    """
    pairs = [pair for item in passes for pair in itertools.pairwise(item)]
    found: Counter[tuple[str, str]] = Counter()
    for before, after in pairs:
        found.update([*dict.fromkeys(_handed_on(before, after))])
    sure = [item for item, number in found.items() if number == len(pairs)]
    # Where the loop works on what a block returned, the next one takes another tensor.
    changed = False
    for name, place in _alike(pairs):
        if all(name != known and place != other for known, other in sure):
            sure.append((name, place))
            changed = True
    if not any(_makes_new(passes, item) for item in sure):
        return None
    new = [item for item in sure if _makes_new(passes, item)]
    passing = [item for item in sure if item not in new]
    hidden, doubt = _hidden_of(new, moving)
    rest = [item for item in (*new, *passing) if item[1] != hidden[1]]
    encoder = rest[0] if rest else None
    return Flow(hidden, encoder, encoder is not None and encoder in passing, changed, doubt)


def _handed_on(before: BlockCall, after: BlockCall) -> list[tuple[str, str]]:
    """Arguments that are an entry of what the block before returned, with its place."""
    found = []
    for name, item in after.tensors.items():
        origin = item.origin
        if origin is not None and origin.index == before.index and origin.place in before.results:
            found.append((name, origin.place))
    for place, result in before.results.items():
        passes = result.passes
        if passes is None or (passes, place) in found:
            continue
        both = passes in before.tensors and passes in after.tensors
        same = both and before.tensors[passes].token == after.tensors[passes].token
        if same or passes in after.others:
            found.append((passes, place))
    return found


def _makes_new(passes: Sequence[Sequence[BlockCall]], item: tuple[str, str]) -> bool:
    """Whether blocks make an entry anew, or overwrite it, rather than pass it through."""
    name, place = item
    results = [call.results.get(place) for calls in passes for call in calls]
    if any(result is None or result.shape is None for result in results):
        return False
    passing = [result is not None and result.passes == name for result in results]
    return not all(passing) or all(len(call.results) == 1 for call in passes[0])


def _alike(pairs: Sequence[tuple[BlockCall, BlockCall]]) -> list[tuple[str, str]]:
    """Arguments that change from block to block and look like an entry of the output."""
    found = []
    for name, first in pairs[0][1].tensors.items():
        tokens = [after.tensors[name].token for _, after in pairs if name in after.tensors]
        if len(set(tokens)) < len(tokens):
            continue
        for place, result in pairs[0][0].results.items():
            shape = result.shape
            if (
                shape is not None
                and len(shape) == len(first.shape)
                and shape[-1] == first.shape[-1]
            ):
                found.append((name, place))
    return sorted(found, key=lambda item: item[0] != HIDDEN)


def _hidden_of(items: Sequence[tuple[str, str]], moving: set[str]) -> tuple[tuple[str, str], str]:
    """Which of the streams is the picture, and a doubt."""
    if len(items) == 1:
        return items[0], ""
    for item in items:
        if item[0] == HIDDEN:
            return item, ""
    others = [item for item in items if item[0] != ENCODER]
    if len(others) == 1:
        return others[0], ""
    # The picture changes from step to step before the first block, the text does not.
    found = [item for item in items if item[0] in moving]
    if len(found) == 1:
        return found[0], ""
    names = " and ".join(name for name, _ in items)
    return items[0], (
        f"both {names} change from step to step: {items[0][0]} is taken for the hidden states"
    )
