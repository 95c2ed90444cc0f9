"""The samples of a batch: which rows are whose, and what each of them has done so far.

A sample is what one request gets. Its rows are those of its latents: one, or two and more where a
pipeline puts guidance's branches into one batch, the second copy of all behind the first. They
decide together, by the worse of their differences. A block list may split a row of the latents into
several of its own, such as the frames of a video, which lie next to each other.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch

from cachedit_yaml.runtime.doubts import read_with
from cachedit_yaml.runtime.forecasts import Forecasts
from cachedit_yaml.runtime.record import SampleRecord

if TYPE_CHECKING:
    from cache_dit.caching.cache_contexts.cache_context import CachedContext

    from cachedit_yaml.compiler.parallel import Ranks
    from cachedit_yaml.runtime.contexts import BranchContext

#: Names of the argument that carries the latents; else it is the first that can.
_LATENTS: Final = ("hidden_states", "latents", "sample", "x", "img")
#: How often guidance puts the latents into one batch, at most.
_MOST_COPIES: Final = 3


class Layout:
    """Which rows belong to which sample.

    Attributes:
        count: rows of the latents.
        copies: how many of them a sample has; None while it is not known.
        latents: what shows it, during a forward in which it may be asked for.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.copies: int | None = None
        self.latents: Any = None

    @property
    def samples(self) -> int:
        """How many there are."""
        return self.count // (self.copies or 1)

    def axis(self, shape: torch.Size) -> int | None:
        """Which dimension of hidden states is the batch; None where there is one sample, or none.

        Args:
            shape: theirs.
        """
        if self.count < 2 or not shape:
            return None
        if shape[0] != self.count and len(shape) > 2 and shape[1] == self.count:
            return 1  # the sequence comes first
        return 0 if shape[0] % self.count == 0 else None

    def rows_of(self, samples: Collection[int], total: int) -> list[int]:
        """The rows of some samples in a tensor with ``total`` rows, in their order."""
        each, count = total // self.count, self.samples
        return [row for row in range(total) if row // each % count in samples]

    def by_sample(self, values: Sequence[float]) -> list[float]:
        """The largest of the values of each sample's rows ``[count]``; NaN where one is."""
        found = []
        for sample in range(self.samples):
            own = values[sample :: self.samples]
            found.append(math.nan if any(map(math.isnan, own)) else max(own))
        return found

    def signs(self) -> list[torch.Tensor]:
        """For two copies, three ...: whether the latents are so many times the same, ``[]``."""
        found = []
        for copies in range(2, _MOST_COPIES + 1):
            apart, left = divmod(self.count, copies)
            if left or self.latents is None:
                found.append(torch.tensor(False))
            elif isinstance(self.latents, torch.Tensor):
                found.append((self.latents[:-apart] == self.latents[apart:]).all())
            else:
                pairs = zip(self.latents[:-apart], self.latents[apart:], strict=True)
                same = [_same(one, other) for one, other in pairs]
                found.append(torch.stack(same).all())
        return found


def _same(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one == other).all() if one.shape == other.shape else torch.tensor(False).to(one.device)


def latents_in(arguments: Mapping[str, Any]) -> tuple[int, Any]:
    """The latents among the arguments of a transformer's forward, and how many rows they have.

    Returns:
        0 and None where there are none.
    """
    values = [arguments[name] for name in _LATENTS if name in arguments]
    for value in [*values, *arguments.values()]:
        if isinstance(value, torch.Tensor) and value.ndim > 1:
            return value.shape[0], value
        several = isinstance(value, (list, tuple)) and len(value) > 0
        if several and all(isinstance(item, torch.Tensor) and item.ndim > 1 for item in value):
            return len(value), value
    return 0, None


def latents_among(names: Iterable[str]) -> frozenset[str]:
    """The names that lead to the latents, of those that lead to the tensors of a forward."""
    given = list(names)
    root = next((name for name in _LATENTS if any(_root(item) == name for item in given)), None)
    return frozenset(item for item in given if _root(item) == root) or frozenset(given[:1])


def _root(name: str) -> str:
    return name.partition(".")[0]


class Samples:
    """The limits of each sample of a branch, from its first difference on.

    Args:
        branch: the branch; what it has counted so far holds for each of them.
        layout: which rows belong to which.

    Attributes:
        contexts: what cache-dit counts of each.
        broken: those whose difference was no number in this step.
    """

    def __init__(self, branch: BranchContext, layout: Layout) -> None:
        self.layout = layout
        self.contexts = [_counters(branch.context) for _ in range(layout.samples)]
        self.broken: list[int] = []
        if len(branch.record.samples) != layout.samples:
            branch.record.samples = self.records(branch)

    @staticmethod
    def records(branch: BranchContext) -> list[SampleRecord]:
        """A record for each, with what all of them have done."""
        record, layout = branch.record, branch.layout
        assert layout is not None
        return [
            SampleRecord(list(record.cached), dict(record.diffs)) for _ in range(layout.samples)
        ]

    def begin_step(self, step: int) -> None:
        """Tell each which step this is, as it counts."""
        for context in self.contexts:
            context.executed_steps = context.transformer_executed_steps = step
            context.mark_step_begin()
        self.broken = []


def _counters(context: CachedContext) -> CachedContext:
    """A context that counts for itself, and shares what is stored."""
    made = copy.copy(context)
    made.calibrator_config = made.calibrator = made.encoder_calibrator = None
    made.cached_steps = list(context.cached_steps)
    made.residual_diffs = defaultdict(float, context.residual_diffs)
    return made


def decide(
    branch: BranchContext, residual: torch.Tensor, ranks: Ranks | None, primary: BranchContext
) -> tuple[bool, ...]:
    """Which samples may be served from the cache in this step, each under its own limits.

    Args:
        branch: the branch.
        residual: output of block F-1 minus input of block 0, ``[b x ...]``.
        ranks: those that decide alike.
        primary: the first branch of this step, as :meth:`BranchContext.can_hit` takes it.

    Returns:
        One answer for each; a single one while all of them are alike.
    """
    manager, layout, known = branch.manager, branch.layout, branch.samples
    threshold = float(branch.resolved.values["residual_diff_threshold"])
    stored = manager.get_Fn_buffer(branch.prefix_fn)
    assert layout is not None
    if not 0.0 < threshold < 1.0 or stored is None or stored.shape != residual.shape:
        return (branch.can_hit(residual, ranks, primary),)
    contexts = [branch.context] if known is None else known.contexts
    allowed = []
    for context in contexts:
        manager.use(context)
        # A threshold of 1 always is "similar" to cache-dit: what is left are the limits.
        allowed.append(bool(manager.can_cache(residual, threshold=1.0, prefix=branch.prefix_fn)))
    manager.use(branch.context)
    if not any(allowed):
        return (False,)
    differences = _borrowed(branch, primary) or _measured(branch, layout, stored, residual, ranks)
    if known is None:
        known = branch.samples = Samples(branch, layout)
        allowed *= layout.samples
    step, record = branch.last_step, branch.record
    hits = []
    for sample, difference in enumerate(differences):
        if not allowed[sample]:
            hits.append(False)
            continue
        record.samples[sample].diffs[step] = difference
        if difference > 0:
            known.contexts[sample].accumulated_residual_diff += difference
        if not math.isfinite(difference):
            known.broken.append(sample)
        hits.append(difference < threshold)
    seen = [own.diffs[step] for own in record.samples if step in own.diffs]
    record.diffs[step] = math.nan if any(map(math.isnan, seen)) else max(seen)
    if known.broken:
        forget(branch, known.broken)
    if branch.batch == "worst" and not all(hits):
        return (False,)
    return tuple(hits)


def _borrowed(branch: BranchContext, primary: BranchContext) -> list[float] | None:
    """The differences of the first branch of the step, where they are to be taken."""
    if primary is branch or branch.resolved.values["cfg_diff_compute_separate"] is not False:
        return None
    theirs, layout = primary.samples, branch.layout
    if theirs is None or layout is None or theirs.layout.count != layout.count:
        return None
    found = [own.diffs.get(branch.last_step) for own in primary.record.samples]
    if any(item is None for item in found):
        return None
    layout.copies = theirs.layout.copies
    return [item for item in found if item is not None]


def _measured(
    branch: BranchContext,
    layout: Layout,
    stored: torch.Tensor,
    residual: torch.Tensor,
    ranks: Ranks | None,
) -> list[float]:
    """The relative difference of each sample; the host waits once."""
    if layout.axis(residual.shape) == 1:
        stored, residual = stored.transpose(0, 1), residual.transpose(0, 1)
    values = branch.manager.differences(
        stored, residual, layout.count, ranks, prefix=branch.prefix_fn
    )
    if layout.copies is None:
        signs = [sign.to(values) for sign in layout.signs()]
        read = read_with(branch.manager.doubt, torch.cat([values, torch.stack(signs)]))
        same = [copies for copies, sign in enumerate(read[layout.count :], start=2) if sign]
        layout.copies = same[0] if same else 1
    else:
        read = read_with(branch.manager.doubt, values)
    return layout.by_sample(read[: layout.count])


def forget(branch: BranchContext, samples: Sequence[int]) -> None:
    """Of these samples no forecast is made from what is stored; they compute this step."""
    for calibrator in forecasts(branch):
        calibrator.forget(samples)


def forecasts(branch: BranchContext, samples: Sequence[int] | None = None) -> list[Forecasts]:
    """The calibrators of a branch, one for each sample from now on.

    Args:
        branch: the branch.
        samples: whose rows come and go next; None for all.
    """
    context, layout = branch.context, branch.layout
    assert layout is not None
    for name in ("calibrator", "encoder_calibrator"):
        found = getattr(context, name)
        if found is not None and not isinstance(found, Forecasts):
            found = Forecasts(found, layout)
            setattr(context, name, found)
        if found is not None:
            found.samples = samples
    return [item for item in context.get_calibrators() if item is not None]
