"""Whether a list of modules is a stack of blocks that can be cached, and in which form."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import torch

from cachedit_yaml.compiler.returns import returned_names
from cachedit_yaml.compiler.signature import parameters_of, plain_forward
from cachedit_yaml.drafting.flow import ENCODER, HIDDEN, Flow, flow_of, moving_arguments
from cachedit_yaml.drafting.record import BlockCall, Forward

#: Dimensions of batch, tokens, channels: what a convolution works on has more.
TOKENS: Final = 3


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
        skips: lists whose inner blocks it takes something of, by their keys in the record.
        kept: what its blocks return is held while others run, which may read it.
        follows: another list, with which it has to be served from the cache.
    """

    path: str
    pattern: str
    roles: dict[str, str]
    dimensions: int
    returns: dict[str, Any]
    evidence: tuple[str, ...]
    doubts: tuple[str, ...]
    skips: frozenset[str] = frozenset()
    kept: bool = False
    follows: str | None = None


#: Why a list is left out that may be fine: only values tell whether what is kept is read.
KEPT: Final = (
    "what its blocks return is kept and read later (skip connections, or a model that feeds "
    "another), and a skipped block returns something else"
)
#: The same where somebody holds it beyond the call, so that a later one may read it too.
STASHED: Final = (
    "what its blocks return is still held when the transformer has returned (in an attribute, or "
    "a list of the pipeline), where a later call may read it, and a skipped block returns "
    "something else"
)


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
    path: str,
    key: str,
    blocks: Sequence[torch.nn.Module],
    forwards: Sequence[Forward],
    *,
    trusting: bool = False,
) -> Blocks | Unfit | None:
    """Look at what a run has shown of one block list.

    Args:
        path: of the list, from its transformer.
        key: of the list, in the record.
        blocks: the list.
        forwards: the transformer's denoising calls.
        trusting: what is kept of its outputs is not read, as far as values will show.

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
    stashed = any(forward.stashed for forward in forwards)
    wrong = _corrupting(passes, later, stashed=stashed, trusting=trusting)
    if wrong is not None:
        return wrong
    flow = flow_of(whole, moving_arguments(key, forwards))
    if flow is None:
        return Unfit(_why_no_flow(whole))
    found = _form(path, blocks[0], passes, whole, flow)
    if isinstance(found, Unfit):
        return found
    kept = any(item[-1].kept for item in passes)
    return replace(found, skips=_skips_from(key, whole), kept=kept)


def _why_no_flow(whole: Sequence[Sequence[BlockCall]]) -> str:
    """Why no stream runs through a list."""
    call = whole[0][0]
    inside = [name for name in call.others if name not in call.tensors]
    if call.tensors or not inside:
        return "no block takes what the one before it returned"
    return (
        f"its blocks take their hidden states inside of {inside[0]!r}, which is no tensor; where "
        "they have an argument of their own, they can be cached"
    )


def _skips_from(key: str, whole: Sequence[Sequence[BlockCall]]) -> frozenset[str]:
    """Other lists of which blocks take what several blocks returned, not the last one alone."""
    taken: dict[str, set[int]] = {}
    for call in (call for calls in whole for call in calls):
        for item in call.tensors.values():
            if item.origin is not None and item.origin.blocks != key:
                taken.setdefault(item.origin.blocks, set()).add(item.origin.index)
    return frozenset(path for path, indexes in taken.items() if len(indexes) > 1)


def _written(passes: Sequence[Sequence[BlockCall]]) -> list[str]:
    return sorted({name for item in passes for call in item for name in call.writes})


def _corrupting(
    passes: Sequence[Sequence[BlockCall]],
    later: Sequence[Sequence[BlockCall]],
    *,
    stashed: bool,
    trusting: bool,
) -> Unfit | None:
    """What skipped blocks would leave undone; the first step is always computed."""
    written = _written(later)
    if written:
        return Unfit(
            f"its blocks write to {', '.join(written[:3])} while they denoise, which a skipped "
            "block would leave undone",
            corrupts=True,
        )
    if any(item[-1].kept for item in passes) and (stashed or not trusting):
        return Unfit(STASHED if stashed else KEPT, corrupts=True)
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


def _form(
    path: str,
    block: torch.nn.Module,
    passes: Sequence[Sequence[BlockCall]],
    whole: Sequence[Sequence[BlockCall]],
    flow: Flow,
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
    roles = {} if name == HIDDEN else {HIDDEN: name}
    returns: dict[str, Any] = {}
    length = len(call.results)
    encoder = flow.encoder if length > 1 else None
    if encoder is None and length == 2 and call.form == "sequence":
        encoder = _named_in_source(block, [*call.results].index(place))
    # cache-dit's own execution hands on both by their places.
    second = (name, ENCODER) in itertools.pairwise(parameters_of(plain_forward(block)))
    pattern = "Pattern_2" if second and ENCODER in call.tensors else "Pattern_3"
    if encoder is not None:
        first = list(call.results).index(place) < list(call.results).index(encoder[1])
        pattern = "Pattern_0" if first else "Pattern_1"
        if flow.state:
            roles["state"] = encoder[0]
        elif encoder[0] != ENCODER:
            roles[ENCODER] = encoder[0]
    usual = call.form == "tensor" or (call.form == "sequence" and length == 1 + bool(encoder))
    if not usual:
        returns = {HIDDEN: _place(place, call)}
        if encoder is not None:
            returns[ENCODER] = _place(encoder[1], call)
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
