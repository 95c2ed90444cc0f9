"""Whether a pass through a block list is served from the cache.

After block F-1 cache-dit decides by its residual. With F = 0 it is decided before the first block,
by a static mask or by the list that this one follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from cachedit_yaml.runtime import samples
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
    binding, branch = run.runner.plan.binding, run.branch
    hits = branch.mask_hits() if run.runner.leader is None else _follows(run)
    if not hits or branch.unfit is not None:
        return
    hidden = binding.hidden.get(args, kwargs)
    encoder = binding.encoder.get(args, kwargs) if binding.encoder else None
    if not branch.fits(hidden, encoder):
        return
    leader = run.runner.leader.running if run.runner.leader is not None else None
    if leader is not None and leader.split is not None:
        run.split = leader.split.over(hidden.shape[0])
        branch.mark_some(run.split)
    else:
        run.hit = True
        branch.mark_hit()


def _follows(run: ListPass) -> bool:
    """Whether the list that this one follows is served from the cache in this forward."""
    leader = run.runner.leader.running if run.runner.leader is not None else None
    if leader is None or leader.round < 0:
        run.branch.unfit = NOT_DECIDED
        return False
    return run.branch.hits_with(leader.branch, leader.hit or leader.split is not None)


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
    fits = branch.fits(hidden, run.encoder)
    if branch.apart(hidden.shape):
        hits = samples.decide(branch, residual, runner.ranks, run.primary)
    else:
        hits = (branch.can_hit(residual, runner.ranks, run.primary),)
    if fits and all(hits):
        run.hit = True
        run.stored = alone
        branch.mark_hit()
    else:
        run.split = _split(run, hits, hidden) if fits and any(hits) else None
        branch.remember_residual(residual, run.split)
        if run.split is not None:
            run.stored = alone
            branch.mark_some(run.split)
        elif alone:
            branch.signature = signature_of(hidden, None)
    run.entry = run.fn_output = None


def _split(run: ListPass, hits: tuple[bool, ...], hidden: torch.Tensor) -> Split | None:
    """Which rows are computed; None where all of them have to be."""
    layout = run.branch.layout
    assert layout is not None
    why = SECOND if layout.axis(hidden.shape) else run.runner.together.get(hidden.shape)
    if why is not None:
        run.branch.record.together[run.step] = why
        return None
    return Split(run.runner, layout, hits, hidden.shape)
