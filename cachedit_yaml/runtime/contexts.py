"""cache-dit's cache contexts, one for each block list and guidance branch of a generation.

Every decision (warm-up, limits, masks, thresholds, calibrators) is cache-dit's. What is ours is
the step that a context believes to be at: it comes from the clock, not from counting calls.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from cache_dit.caching.cache_contexts.cache_context import CachedContext

from cachedit_yaml.compiler.parallel import Ranks
from cachedit_yaml.compiler.settings import Resolved
from cachedit_yaml.runtime.forecasts import Forecasts
from cachedit_yaml.runtime.manager import ContextManager, free
from cachedit_yaml.runtime.record import BranchRecord
from cachedit_yaml.runtime.rows import Split
from cachedit_yaml.runtime.samples import Layout, Samples, forget


class BranchContext:
    """The context of one guidance branch of one block list, for one generation.

    Attributes:
        manager: decides and holds the buffers.
        context: the current cache-dit context.
        leader: the branch of another list that decides for this one; None before the first step, or
            where this one decides.
        layout: which rows of this forward belong to which sample; None where nobody tells.
        samples: the limits of each sample of a batch; None while all of them are alike.
        signature: shape, dtype and device of what is stored, of the hidden states and of the
            encoder hidden states; None while nothing is.
        record: the statistics.
        unfit: why this list cannot hit, whatever its differences are; None while it may.
    """

    __slots__ = (
        "_mask",
        "_num_steps",
        "_refreshed",
        "context",
        "last_step",
        "layout",
        "leader",
        "manager",
        "offset",
        "prefix_fn",
        "record",
        "resolved",
        "samples",
        "signature",
        "unfit",
    )

    def __init__(
        self, name: str, resolved: Resolved, num_steps: int | None, mask: list[int] | None
    ) -> None:
        self.resolved = resolved
        self.manager = ContextManager(name=name)
        self.record = BranchRecord()
        self.prefix_fn = f"{name}_Fn_residual"
        self._num_steps, self._mask = num_steps, mask
        self._refreshed = False
        self.unfit: str | None = None
        self.leader: BranchContext | None = None
        self.layout: Layout | None = None
        self.offset = 0
        self.last_step = -1
        self._new_context()

    def _new_context(self) -> None:
        self.context: CachedContext = self.manager.reset_context(
            str(self.manager.name),
            cache_config=self.resolved.cache_config(self._num_steps, self._mask),
            calibrator_config=copy.deepcopy(self.resolved.calibrator_config()),
        )
        self.manager.use(self.context)
        self.samples: Samples | None = None
        self.signature: tuple[Any, ...] | None = None

    def expect(self, num_steps: int | None, mask: list[int] | None) -> None:
        """Another number of steps will be executed than was known when this was made."""
        self._num_steps, self._mask = num_steps, mask
        self.context.cache_config = self.resolved.cache_config(num_steps, mask)
        for context in self.samples.contexts if self.samples is not None else ():
            context.cache_config = self.context.cache_config

    @property
    def num_steps(self) -> int | None:
        """Steps that will be executed, as far as is known."""
        return self._num_steps

    def begin_step(self, step: int, place: int = 0) -> None:
        """Tell the context which step this is.

        Args:
            step: index within this transformer's share of the generation.
            place: which forward of the step this is, from 0 on.
        """
        values = self.resolved.values
        hint = values["force_refresh_step_hint"]
        again = values["force_refresh_step_policy"] == "repeat" or not self._refreshed
        if hint is not None and step - self.offset >= hint and again:
            self._refreshed = True
            self.offset = step
            self._new_context()
        context = self.context
        gap = step - self.last_step - 1
        if gap > 0 and self.last_step >= self.offset:
            # A branch that pauses (guidance on an interval): its calibrators forecast over the
            # true distance.
            for calibrator in context.get_calibrators():
                if calibrator is not None:
                    for _ in range(gap):
                        calibrator.mark_step_begin()
        self.last_step = step
        context.executed_steps = context.transformer_executed_steps = step - self.offset
        self.manager.use(context)
        context.mark_step_begin()
        if self.samples is not None:
            self.samples.begin_step(step - self.offset)
        self.record.executed.append(step)
        self.record.places.append(place)

    def can_hit(self, residual: torch.Tensor, ranks: Ranks | None, primary: BranchContext) -> bool:
        """Ask cache-dit whether this step may be served from the cache.

        Args:
            residual: output of block F-1 minus input of block 0, ``[...]`` of any shape.
            ranks: those that decide alike, by the mean of their differences; None for one alone.
            primary: the first branch of this step; its difference decides where
                ``cfg_diff_compute_separate`` is false.
        """
        step = self.last_step
        borrowed = None
        if primary is not self and self.resolved.values["cfg_diff_compute_separate"] is False:
            borrowed = primary.record.diffs.get(step)
        if borrowed is None:
            self.manager.ranks = ranks
            hit = bool(self.manager.can_cache(residual, ranks is not None, prefix=self.prefix_fn))
            # cache-dit writes -1 for a difference that it did not look at, -2 for another shape.
            measured = self.context.residual_diffs.get(str(step - self.offset))
            if isinstance(measured, float) and not measured < 0:
                self.record.diffs[step] = measured
        else:
            hit = self._can_hit_with(borrowed, residual)
            self.record.diffs[step] = borrowed
        if not math.isfinite(self.record.diffs.get(step, 0.0)):
            # This step's or the stored one's: neither is worth anything.
            self.forget()
            return False
        return hit and not self._past_limit()

    def _can_hit_with(self, diff: float, residual: torch.Tensor) -> bool:
        """Decide by another branch's difference, under this branch's own limits."""
        similar = diff < float(self.resolved.values["residual_diff_threshold"])
        # A threshold of 1 always is "similar" to cache-dit: what is left are the limits.
        allowed = bool(self.manager.can_cache(residual, threshold=1.0, prefix=self.prefix_fn))
        if allowed and diff > 0:
            self.context.accumulated_residual_diff += diff
        return allowed and similar

    def mask_hits(self) -> bool:
        """Whether a static mask, which looks at no residual, serves this step from the cache."""
        return self.static and bool(self.manager.can_cache(None)) and not self._past_limit()

    def _past_limit(self) -> bool:
        """Whether a limit is reached that cache-dit leaves out under a static mask."""
        config, context = self.context.cache_config, self.context
        if not self.static:
            return False
        most, in_a_row = config.max_cached_steps, config.max_continuous_cached_steps
        cached, running = len(context.cached_steps), context.continuous_cached_steps
        return bool(0 <= most <= cached or 0 <= in_a_row <= running)

    @property
    def static(self) -> bool:
        """Whether a mask alone decides."""
        config = self.context.cache_config
        return (
            config.steps_computation_mask is not None
            and config.steps_computation_policy == "static"
        )

    def hits_with(self, leader: BranchContext, hit: bool) -> bool:
        """Take the decision of another list.

        Args:
            leader: its state of the same guidance branch.
            hit: whether it is served from the cache in this forward.
        """
        self.leader = leader
        if leader.unfit is not None:
            self.unfit = f"{leader.manager.name}, which it follows, cannot hit"
        if not math.isfinite(leader.record.diffs.get(self.last_step, 0.0)):
            # What made it no number may be stored here.
            if leader.samples is None:
                self.forget()
            else:
                forget(self, leader.samples.broken)
        return hit

    @property
    def batch(self) -> str:
        """How the samples of a batch decide."""
        return str(self.resolved.values["batch"] or "per_sample")

    def arrange(self, layout: Layout | None) -> None:
        """Tell which rows of this forward belong to which sample."""
        if self.layout is not None and layout is not self.layout:
            self.samples = None  # another batch: nothing that is known of its samples holds
            for name in ("calibrator", "encoder_calibrator"):
                found = getattr(self.context, name)
                if isinstance(found, Forecasts):
                    setattr(self.context, name, found.anew())
        self.layout = layout

    def apart(self, shape: torch.Size) -> bool:
        """Whether each sample of a batch is looked at by itself.

        Args:
            shape: of the hidden states.
        """
        if self.layout is None or self.batch == "mean" or self.static:
            return False
        return self.layout.axis(shape) is not None

    def watch(self, compared: torch.Tensor, stored: Sequence[torch.Tensor]) -> bool:
        """Read with the next difference whether what is stored holds numbers."""
        self.manager.use(self.context)
        return self.manager.watch(self.prefix_fn, compared, stored)

    def mark_hit(self) -> None:
        """Record that this step is served from the cache."""
        self.context.add_cached_step()
        self.record.cached.append(self.last_step)
        self._mark(range(len(self.record.samples)))

    def mark_some(self, split: Split) -> None:
        """Record that some samples are served from the cache in this step."""
        self.record.partly[self.last_step] = 1 - split.share
        if len(self.record.samples) != len(split.served) + len(split.computed):
            self.record.samples = Samples.records(self)
        self._mark(split.served)

    def _mark(self, samples: Iterable[int]) -> None:
        for sample in samples:
            self.record.samples[sample].cached.append(self.last_step)
            if self.samples is not None:
                self.samples.contexts[sample].add_cached_step()

    def ran(self, split: Split, whole: int = 0) -> None:
        """A block ran for the samples that are computed, and so many times for all of them."""
        self.record.computed_blocks += split.share + whole

    def computed_together(self, why: str) -> None:
        """All samples are computed in this step, because some are."""
        self.record.together[self.last_step] = why

    def settle(self) -> None:
        """The loop has left the middle blocks: where nothing is stored, its leader hits no more."""
        if self.leader is not None and self.signature is None and self.unfit is None:
            self.leader.signature = None

    def undo_step(self, blocks: int) -> None:
        """This step was run again without the cache: nothing of it may be used.

        Args:
            blocks: how many blocks the second run called.
        """
        if self.record.cached[-1:] == [self.last_step]:
            self.record.cached.pop()
            self.context.cached_steps.pop()
        self.record.partly.pop(self.last_step, None)
        for sample, own in enumerate(self.record.samples):
            if own.cached[-1:] == [self.last_step]:
                own.cached.pop()
                if self.samples is not None:
                    self.samples.contexts[sample].cached_steps.pop()
        self.record.computed_blocks += blocks
        self.record.total_blocks += blocks
        self.forget()

    def forget(self) -> None:
        """Nothing that is stored is used any more; the next step computes."""
        self.context.clear_buffers()
        for calibrator in self.context.get_calibrators():
            if calibrator is not None:
                calibrator.reset_cache()
        self.signature = None

    def release(self) -> None:
        """Drop every tensor; the statistics stay, and nothing is stored any more."""
        free(self.context)
        self.samples = self.layout = self.signature = None
