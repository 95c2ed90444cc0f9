"""What a pass through a block list stores of its middle blocks, and what cannot be stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from cachedit_yaml.runtime.identity import overwritten, shape_of, version_of

if TYPE_CHECKING:
    from cachedit_yaml.runtime.passes import ListPass

CHANGES_SHAPE = "its blocks change the shape of what runs through them"
TAKES_SKIPPED = (
    "its last blocks take what skipped ones return (skip connections); set Bn_compute_blocks to 0"
)
TAKES_REPLACED = (
    "the loop replaces the encoder hidden states between skipped blocks, and its last blocks take "
    "them; set Bn_compute_blocks to 0"
)


def whole(run: ListPass, hidden: torch.Tensor, rest: Any, index: int) -> None:
    """The middle blocks have been computed.

    Args:
        run: the pass.
        hidden: hidden states after them, ``[b x s x d]``.
        rest: encoder hidden states after them, where they are returned.
        index: the last of the middle blocks that the loop called.
    """
    runner, branch, first = run.runner, run.branch, run.first_hidden
    run.stored = True
    run.last_out = None
    if first is None or branch.unfit is not None:
        return
    encoder = rest if isinstance(rest, torch.Tensor) and run.keeps_encoder else None
    before = run.first_encoder
    if before is None or encoder is None:
        before = encoder = None
    if not runner.in_place and (
        overwritten(first, run.first_versions[0], hidden)
        or (before is not None and version_of(before) != run.first_versions[1])
    ):
        runner.in_place = True
        branch.signature = None
        return
    replaced = shape_of(before) != shape_of(encoder)
    if first.shape != hidden.shape or (replaced and run.encoder_shape != shape_of(encoder)):
        branch.unfit = CHANGES_SHAPE
        return
    branch.replaced = None
    if replaced:
        # Not a block but the loop has put another tensor in the place of the encoder hidden
        # states: there is nothing that the blocks have added to one tensor.
        if branch.resolved.bn > 0:
            branch.unfit = TAKES_REPLACED
            return
        branch.replaced = run.encoder_shape
        before = encoder = None
    branch.store(first.to(hidden.device), hidden, before, encoder)
    branch.last_middle = index
    branch.called = run.called
    run.first_hidden = run.first_encoder = None


def part(run: ListPass, hidden: torch.Tensor, rest: Any) -> None:
    """The rows that are computed have run through the middle blocks.

    Args:
        run: the pass.
        hidden: their hidden states, ``[r x s x d]``.
        rest: their encoder hidden states, where they are returned.
    """
    branch, first, before = run.branch, run.first_hidden, run.first_encoder
    assert first is not None
    run.stored = True
    versions = version_of(first), version_of(before)
    if not run.runner.in_place and versions != run.first_versions:
        run.runner.in_place = True
        branch.signature = None
        return
    both = branch.has_encoder and isinstance(rest, torch.Tensor)
    branch.store(
        first.to(hidden.device), hidden, before if both else None, rest if both else None,
        run.split,
    )  # fmt: skip


def look_for_skips(run: ListPass, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Blocks that run on a hit may take what one that does not run has returned.

    Args:
        run: the pass.
        args: those of one of its last blocks.
        kwargs: those of the same block.
    """
    passes = [item.running for item in run.runner.group]
    begun = [item for item in passes if item is not None and item.round >= 0]
    made = [out() for item in begun for out in item.outputs or ()]
    if not made:
        return
    hidden = run.runner.plan.binding.hidden.get(args, kwargs)
    given = [v for v in (*args, *kwargs.values()) if v is not None and v is not hidden]
    if any(value is tensor for value in given for tensor in made):
        for item in begun:
            item.branch.unfit = TAKES_SKIPPED
            item.branch.signature = None
