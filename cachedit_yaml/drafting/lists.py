"""Which block lists of a transformer an adapter names, in which order, and which go together."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from cachedit_yaml.compiler.loops import adjoining
from cachedit_yaml.drafting.blocks import TOKENS, Blocks, Unfit, judge
from cachedit_yaml.drafting.parts import Candidate, other_containers
from cachedit_yaml.drafting.steps import Denoiser

#: A list of so few blocks is left out beside a longer one.
_FEW: Final = 2


def lists_of(
    denoiser: Denoiser,
    candidates: Sequence[Candidate],
    evidence: dict[str, tuple[str, ...]],
    refused: list[str],
    *,
    trusting: bool,
) -> list[Blocks]:
    """The block lists of a transformer, and why others are none.

    Args:
        denoiser: the transformer, with what was seen of it.
        candidates: every list of modules.
        evidence: gets what the run has shown, by attribute path.
        refused: gets why lists of the transformer itself cannot be cached.
        trusting: what is kept of blocks' outputs is not read, as far as values will show.

    Returns:
        The lists in the order in which they run.
    """
    prefix = f"{denoiser.path}." if denoiser.path else ""
    fitting: dict[str, tuple[Candidate, Blocks]] = {}
    for item in sorted(candidates, key=lambda item: item.path.count(".")):
        if not item.path.startswith(prefix) or any(
            item.path.startswith(f"{path}.") for path in fitting
        ):
            continue
        path = item.path.removeprefix(prefix)
        blocks = tuple(item.holder)
        found = judge(path, item.path, blocks, denoiser.forwards, trusting=trusting)
        if isinstance(found, Unfit):
            evidence[item.path] = (found.why,)
            if item.path.count(".") == prefix.count("."):
                refused.append(f"{path}: {found.why}")
        elif found is not None:
            fitting[item.path] = item, found
    for path, why in _left_out(denoiser, fitting).items():
        evidence[path] = (f"left out: {why}",)
        del fitting[path]
    longest = max((len(item.holder) for item, _ in fitting.values()), default=0)
    for name, other in other_containers(denoiser.module):
        if len(other) > longest and not any(f"{prefix}{name}.".startswith(x) for x in fitting):
            evidence[f"{prefix}{name}"] = (
                f"a {type(other).__name__} of {len(other)}, and only the blocks of a "
                "torch.nn.ModuleList can be cached",
            )
    order = sorted(fitting, key=lambda path: _first_call(denoiser, path))
    ordered = [(path, fitting[path][1]) for path in order]
    leaders = _leaders(ordered)
    adjoined = _adjoined(denoiser, ordered)
    for path in order:
        item, one = fitting[path]
        kinds = ", ".join(dict.fromkeys(type(block).__name__ for block in item.holder))
        evidence[path] = (f"{len(item.holder)} {kinds}", *one.evidence)
        if path in leaders:
            why = f"what the blocks of {leaders[path]} return is read from here on"
            evidence[path] += (f"{why}, so both are cached together",)
        elif path in adjoined:
            evidence[path] += (f"goes on right where {adjoined[path]} ends, and follows it",)
    follows = {**adjoined, **leaders}
    return [replace(fitting[path][1], follows=follows.get(path)) for path in order]


def _first_call(denoiser: Denoiser, path: str) -> int:
    """When a block of a list is called first."""
    return next(item.calls[path][0].number for item in denoiser.forwards if item.calls.get(path))


def _leaders(order: Sequence[tuple[str, Blocks]]) -> dict[str, str]:
    """The lists that have to be served from the cache together with an earlier one.

    Blocks that take what inner blocks of another list returned, as a U-Net's skip connections, get
    what a skipped block returns wherever that list is served from the cache and theirs is not.
    What runs between the two is in the same case.

    Args:
        order: lists by their keys in the record, in the order in which they run.
    """
    found: dict[str, str] = {}
    for place, (path, one) in enumerate(order):
        reach = [
            number
            for number, (_, later) in enumerate(order)
            if number > place and (one.kept or path in later.skips)
        ]
        for later, _ in order[place + 1 : max(reach, default=place) + 1]:
            found.setdefault(later, one.path)
    return found


def _adjoined(denoiser: Denoiser, order: Sequence[tuple[str, Blocks]]) -> dict[str, str]:
    """The lists that forward runs right behind another one in the same way, as if they were one.

    One decision for both costs fewer blocks at the same quality, and one wait for the device.
    """
    found: dict[str, str] = {}
    for (before, one), (path, other) in itertools.pairwise(order):
        alike = (one.pattern, one.roles, one.returns) == (other.pattern, other.roles, other.returns)
        if alike and adjoining(denoiser.module, one.path, other.path):
            found[path] = found.get(before, one.path)
    return found


def _left_out(
    denoiser: Denoiser, fitting: Mapping[str, tuple[Candidate, Blocks]]
) -> dict[str, str]:
    """Lists that fit and are better not cached."""
    found: dict[str, str] = {}
    longest = max((len(item.holder) for item, _ in fitting.values()), default=0)
    ranges: list[tuple[int, int, str]] = []
    for path, (item, blocks) in fitting.items():
        ran = [forward for forward in denoiser.forwards if forward.passes(path)]
        name = blocks.roles.get("hidden_states", "hidden_states")
        marks: dict[int, set[tuple[float, ...]]] = {}
        for forward in ran:
            taken = forward.passes(path)[0][0].tensors.get(name)
            if taken is not None:
                marks.setdefault(forward.step, set()).add(taken.mark)
        still = len(marks) > 1 and len({frozenset(item) for item in marks.values()}) == 1
        numbers = [call.number for call in ran[0].passes(path)[0]]
        around = [other for begin, end, other in ranges if begin < numbers[-1] and numbers[0] < end]
        if still:
            found[path] = "what goes into it is the same in every step"
        elif len(item.holder) <= _FEW and (longest > _FEW or blocks.dimensions > TOKENS):
            found[path] = f"{len(item.holder)} blocks are too few to gain anything"
        elif around:
            found[path] = f"its blocks run between those of {around[0]}"
        else:
            ranges.append((numbers[0], numbers[-1], path))
    return found
