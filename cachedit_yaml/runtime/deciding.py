"""Whether a pass through a block list is served from the cache.

After block F-1 cache-dit decides by its residual. With F = 0 it is decided before the first block,
by a static mask or by the list that this one follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from cachedit_yaml.runtime.identity import overwritten
from cachedit_yaml.runtime.residuals import signature_of
from cachedit_yaml.runtime.rows import Split

if TYPE_CHECKING:
    from cachedit_yaml.runtime.passes import ListPass

NOT_DECIDED = "the loop runs it before the list that it follows"
NOTHING_TO_SKIP = "Fn_compute_blocks and Bn_compute_blocks leave no block to skip"

SECOND = "the batch is the second dimension of its hidden states"


def before(run: ListPass, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Decide with F = 0, where no block has run whose residual could be looked at.

    Args:
        run: the pass.
        args: those of the first block.
        kwargs: those of the first block.
    """
    binding, branch, leader = run.runner.plan.binding, run.branch, None
    if run.runner.leader is not None:
        leader = run.runner.leader.running
        if leader is None or leader.round < 0:
            branch.unfit = NOT_DECIDED
            return
    hidden = binding.hidden.get(args, kwargs)
    encoder = binding.encoder.get(args, kwargs) if binding.encoder else None
    first: Any = None if leader is None else leader.branch
    own = () if leader is None else leader.hits
    hits = branch.decide_before(hidden, encoder, first, own)
    if all(hits):
        run.hit = True
        branch.mark_hit()
    elif any(hits):
        if leader is not None and leader.split is not None and hits == own:
            run.split = leader.split.over(hidden.shape[0])
        else:
            run.split = _split(run, hits, hidden, encoder)
        if run.split is not None:
            branch.mark_some(run.split)


def after(run: ListPass, hidden: torch.Tensor) -> None:
    """Decide by the residual of the first F blocks.

    Args:
        run: the pass.
        hidden: hidden states after them, ``[b x s x d]``.
    """
    entry, runner, branch = run.entry, run.runner, run.branch
    if entry is None or branch.unfit is not None:
        return
    if not runner.in_place and overwritten(entry, run.entry_version, hidden):
        runner.in_place = True  # from now on the input is cloned; this step just computes
        return
    entry = entry.to(hidden.device)
    # Under context parallelism the first block may split the sequence.
    residual = hidden - entry if entry.shape == hidden.shape else hidden.clone()
    alone = run.fn >= run.end  # nothing to skip: it decides for others
    hits = branch.decide(residual, hidden, run.encoder, runner.ranks, run.primary)
    if all(hits):
        run.hit = True
        run.stored = alone
        branch.mark_hit()
    else:
        run.split = _split(run, hits, hidden, run.encoder) if any(hits) else None
        branch.remember_residual(residual, run.split)
        if alone:
            branch.sign(hidden)
        if run.split is not None:
            run.stored = alone
            branch.mark_some(run.split)
    run.entry = run.fn_output = None


def _split(
    run: ListPass, hits: tuple[bool, ...], hidden: torch.Tensor, encoder: Any
) -> Split | None:
    """Which rows are computed; None where all of them have to be."""
    layout = run.branch.layout
    assert layout is not None
    kind = signature_of(hidden, encoder)
    why = SECOND if layout.axis(hidden.shape) else run.runner.together.get(kind)
    if why is not None:
        run.branch.computed_together(why)
        return None
    return Split(run.runner, layout, hits, hidden.shape[0], kind)
