"""Whether a list of modules is a stack of blocks that can be cached, and in which form."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from cachedit_yaml.compiler.returns import returned_names
from cachedit_yaml.compiler.signature import parameters_of, plain_forward
from cachedit_yaml.drafting.record import BlockCall, Forward

#: Dimensions of batch, tokens, channels: what a convolution works on has more.
TOKENS: Final = 3
#: Names of arguments, and what cache-dit calls them.
_HIDDEN, _ENCODER = "hidden_states", "encoder_hidden_states"


@dataclass(frozen=True)
class Blocks:
    """A block list as an adapter says it.

    Attributes:
        path: attribute path from its transformer.
        pattern: the forward pattern.
        roles: names of arguments that are not cache-dit's usual ones.
        dimensions: of the hidden states.
        returns: where the output holds what; empty for a tensor or a pair.
        evidence: what the run has shown, for a comment.
        doubts: what it has not shown.
    """

    path: str
    pattern: str
    roles: dict[str, str]
    dimensions: int
    returns: dict[str, Any]
    evidence: tuple[str, ...]
    doubts: tuple[str, ...]


@dataclass(frozen=True)
class Unfit:
    """Why a list cannot be cached.

    Attributes:
        why: one sentence.
        corrupts: skipping its blocks would change what later steps or other modules read.
    """

    why: str
    corrupts: bool = False


def judge(
    path: str, key: str, blocks: Sequence[torch.nn.Module], forwards: Sequence[Forward]
) -> Blocks | Unfit | None:
    """Look at what a run has shown of one block list.

    Args:
        path: of the list, from its transformer.
        key: of the list, in the record.
        blocks: the list.
        forwards: the transformer's denoising calls.

    Returns:
        The list for an adapter, why it is none, or None where no block of it ran.
    """
    passes = [item for forward in forwards for item in forward.passes(key)]
    if not passes:
        return None
    count = len(blocks)
    first = min(forward.step for forward in forwards)
    later = [x for forward in forwards if forward.step > first for x in forward.passes(key)]
    whole = [item for item in passes if [call.index for call in item] == [*range(count)]]
    if not whole:
        order = ", ".join(str(call.index) for call in passes[0][:12])
        return Unfit(f"of its {count} blocks these run, in this order: {order}")
    wrong = _corrupting(passes, later)
    if wrong is not None:
        return wrong
    flow = _flow(whole, _moving(key, forwards))
    if isinstance(flow, Unfit):
        return flow
    return _form(path, blocks[0], passes, whole, flow)


@dataclass(frozen=True)
class _Flow:
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


def _written(passes: Sequence[Sequence[BlockCall]]) -> list[str]:
    return sorted({name for item in passes for call in item for name in call.writes})


def _corrupting(
    passes: Sequence[Sequence[BlockCall]], later: Sequence[Sequence[BlockCall]]
) -> Unfit | None:
    """What skipped blocks would leave undone; the first step is always computed."""
    written = _written(later)
    if written:
        return Unfit(
            f"its blocks write to {', '.join(written[:3])} while they denoise, which a skipped "
            "block would leave undone",
            corrupts=True,
        )
    if any(item[-1].kept for item in passes):
        return Unfit(
            "what its blocks return is kept and read later (skip connections, or a model that "
            "feeds another), and a skipped block returns something else",
            corrupts=True,
        )
    return None


def _skips(passes: Sequence[Sequence[BlockCall]]) -> bool:
    """Whether what a block returned is held for a later one, as skip connections do."""
    taken = (
        item.origin is not None and item.origin.index < call.index - 1
        for calls in passes
        for call in calls
        for item in call.tensors.values()
    )
    return any(call.kept for calls in passes for call in calls) or any(taken)


def _moving(key: str, forwards: Sequence[Forward]) -> set[str]:
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


def _flow(passes: Sequence[Sequence[BlockCall]], moving: set[str]) -> _Flow | Unfit:
    pairs = [pair for item in passes for pair in itertools.pairwise(item)]
    found: Counter[tuple[str, str]] = Counter()
    for before, after in pairs:
        found.update(set(_handed_on(before, after)))
    sure = [item for item, number in found.items() if number == len(pairs)]
    # Where the loop works on what a block returned, the next one takes another tensor.
    changed = False
    for name, place in _alike(pairs):
        if all(name != known and place != other for known, other in sure):
            sure.append((name, place))
            changed = True
    if not any(_new(passes, item) for item in sure):
        return Unfit("no block takes what the one before it returned")
    new = [item for item in sure if _new(passes, item)]
    passing = [item for item in sure if item not in new]
    hidden, doubt = _hidden_of(new, moving)
    rest = [item for item in (*new, *passing) if item[1] != hidden[1]]
    encoder = rest[0] if rest else None
    return _Flow(hidden, encoder, encoder is not None and encoder in passing, changed, doubt)


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


def _new(passes: Sequence[Sequence[BlockCall]], item: tuple[str, str]) -> bool:
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
    return sorted(found, key=lambda item: item[0] != _HIDDEN)


def _hidden_of(items: Sequence[tuple[str, str]], moving: set[str]) -> tuple[tuple[str, str], str]:
    """Which of the streams is the picture, and a doubt."""
    if len(items) == 1:
        return items[0], ""
    for item in items:
        if item[0] == _HIDDEN:
            return item, ""
    others = [item for item in items if item[0] != _ENCODER]
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


def _form(
    path: str,
    block: torch.nn.Module,
    passes: Sequence[Sequence[BlockCall]],
    whole: Sequence[Sequence[BlockCall]],
    flow: _Flow,
) -> Blocks | Unfit:
    call = whole[0][0]
    name, place = flow.hidden
    if any(name not in item.tensors for item in whole[0]):
        return Unfit(f"its blocks do not all take their hidden states as {name!r}")
    shapes = [item.results[place].shape for item in whole[0]]
    entering = call.tensors[name].shape
    if flow.changed and len(entering) > TOKENS:
        return Unfit("between its blocks, which are convolutions, the loop runs something else")
    odd = next((shape for shape in shapes if shape != entering and not flow.changed), None)
    if odd is not None:
        return Unfit(f"its hidden states go in as {_shape(entering)} and come out as {_shape(odd)}")
    roles = {} if name == _HIDDEN else {_HIDDEN: name}
    returns: dict[str, Any] = {}
    length = len(call.results)
    encoder = flow.encoder if length > 1 else None
    if encoder is None and length == 2 and call.form == "sequence":
        encoder = _named_in_source(block, [*call.results].index(place))
    pattern = "Pattern_2" if _ENCODER in call.tensors else "Pattern_3"
    if encoder is not None:
        first = list(call.results).index(place) < list(call.results).index(encoder[1])
        pattern = "Pattern_0" if first else "Pattern_1"
        if flow.state:
            roles["state"] = encoder[0]
        elif encoder[0] != _ENCODER:
            roles[_ENCODER] = encoder[0]
    usual = call.form == "tensor" or (call.form == "sequence" and length == 1 + bool(encoder))
    if not usual:
        returns = {_HIDDEN: _place(place, call)}
        if encoder is not None:
            returns[_ENCODER] = _place(encoder[1], call)
    evidence = []
    if flow.changed:
        evidence.append("the loop changes the hidden states between two blocks")
    if len(whole) < len(passes):
        evidence.append("some calls leave out some of these blocks")
    if written := _written(passes):
        evidence.append(
            f"in the first step the blocks write to {', '.join(written[:3])}: it has to be computed"
        )
    if _skips(whole):
        evidence.append(
            "later blocks take what earlier ones returned: keep Bn_compute_blocks at most "
            "Fn_compute_blocks"
        )
    return Blocks(
        path,
        pattern,
        roles,
        len(entering or ()),
        returns,
        tuple(evidence),
        (flow.doubt,) if flow.doubt else (),
    )


def _named_in_source(block: torch.nn.Module, place: int) -> tuple[str, str] | None:
    """The argument that the source of a block returns in the other place, None in this run."""
    cls: Any = type(block)
    other = 1 - place
    takes = parameters_of(plain_forward(block))
    names = {item[other] for item in returned_names(cls) if len(item) == 2}
    name = names.pop() if len(names) == 1 else None
    return (name, str(other)) if name in takes and name is not None else None


def _place(place: str, call: BlockCall) -> str | int:
    return int(place) if call.form == "sequence" and place.isdecimal() else place


def _shape(shape: tuple[int, ...] | None) -> str:
    return " x ".join(map(str, shape or ())) or "a number"
