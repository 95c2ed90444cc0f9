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
from cachedit_yaml.runtime.residuals import signature_of, taint
from cachedit_yaml.runtime.rows import Split
from cachedit_yaml.runtime.samples import Layout, Samples, decide, forecasts, forget, taint_rows


class BranchState:
    """The cache of one guidance branch of one block list, for one generation.

    Attributes:
        manager: decides and holds the buffers.
        context: the current cache-dit context.
        called: bit set of the middle blocks that the last computed step called.
        last_middle: the last of them, after which a hit applies the cache; -1 before the first.
        kept: what else the middle blocks' outputs held on the last computed step, by block.
        leader: the branch of another list that decides for this one; None before the first step, or
            where this one decides.
        has_encoder: encoder hidden states are stored too; the last block may return none.
        replaced: shape of the encoder hidden states that the loop puts in the place of those that
            entered the list; None where it does not.
        signature: shape, dtype and device of what is stored, of the hidden states and of the
            encoder hidden states; None while nothing is.
        ends: whether no list comes behind this one that takes the same decision.
        layout: which rows of this forward belong to which sample; None where nobody tells.
        samples: the limits of each sample of a batch; None while all of them are alike.
        record: the statistics.
        unfit: why this list cannot hit, whatever its differences are; None while it may.
    """

    __slots__ = (
        "_mask",
        "_num_steps",
        "_refreshed",
        "called",
        "context",
        "ends",
        "has_encoder",
        "kept",
        "last_middle",
        "last_step",
        "layout",
        "leader",
        "manager",
        "offset",
        "prefix_bn",
        "prefix_fn",
        "record",
        "replaced",
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
        self.leader: BranchState | None = None
        self.ends = True
        self.layout: Layout | None = None
        self.offset = 0
        self.last_step = -1
        self._new_context()

    def _new_context(self) -> None:
        name = str(self.manager.name)
        self.context: CachedContext = self.manager.reset_context(
            name,
            cache_config=self.resolved.cache_config(self._num_steps, self._mask),
            calibrator_config=copy.deepcopy(self.resolved.calibrator_config()),
        )
        self.manager.use(self.context)
        residual = self.manager.is_cache_residual()
        self.prefix_bn = f"{name}_Bn_{'residual' if residual else 'hidden_states'}"
        self.signature: tuple[Any, ...] | None = None
        self.called = 0
        self.kept: dict[int, Any] = {}
        self.last_middle = -1
        self.has_encoder = False
        self.replaced: torch.Size | None = None
        self.samples: Samples | None = None

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

    def can_hit(self, residual: torch.Tensor, ranks: Ranks | None, primary: BranchState) -> bool:
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

    def decide(
        self,
        residual: torch.Tensor,
        hidden: torch.Tensor,
        encoder: Any,
        ranks: Ranks | None,
        primary: BranchState,
    ) -> tuple[bool, ...]:
        """Which samples are served from the cache in this step; a single answer where all are one.

        Args:
            residual: what the first F blocks added, ``[b x ...]``.
            hidden: hidden states after them, ``[b x s x d]``.
            encoder: encoder hidden states after them, or None.
            ranks: as for :meth:`can_hit`.
            primary: as there.
        """
        fits = self.fits(hidden, encoder)
        if self.apart(hidden.shape):
            hits = decide(self, residual, ranks, primary)
        else:
            hits = (self.can_hit(residual, ranks, primary),)
        return hits if fits else (False,)

    def decide_before(
        self,
        hidden: torch.Tensor,
        encoder: Any,
        leader: BranchState | None,
        hits: tuple[bool, ...],
    ) -> tuple[bool, ...]:
        """The same with F = 0, where no block has run whose residual could be looked at.

        Args:
            hidden: hidden states before the first block, ``[b x s x d]``.
            encoder: encoder hidden states before it, or None.
            leader: what decided for the list that this one follows; None without.
            hits: what it decided.
        """
        if leader is None:
            found, hits = self.mask_hits(), (True,)
        else:
            found = self.hits_with(leader, any(hits))
        served = found and self.unfit is None and self.fits(hidden, encoder)
        return hits if served else (False,)

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

    def mask_hits(self) -> bool:
        """Whether a static mask, which looks at no residual, serves this step from the cache."""
        return self.static and bool(self.manager.can_cache(None)) and not self._past_limit()

    def hits_with(self, leader: BranchState, hit: bool) -> bool:
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

    def _can_hit_with(self, diff: float, residual: torch.Tensor) -> bool:
        """Decide by another branch's difference, under this branch's own limits."""
        similar = diff < float(self.resolved.values["residual_diff_threshold"])
        # A threshold of 1 always is "similar" to cache-dit: what is left are the limits.
        allowed = bool(self.manager.can_cache(residual, threshold=1.0, prefix=self.prefix_fn))
        if allowed and diff > 0:
            self.context.accumulated_residual_diff += diff
        return allowed and similar

    def _past_limit(self) -> bool:
        """Whether a limit is reached that cache-dit leaves out under a static mask."""
        config, context = self.context.cache_config, self.context
        if not self.static:
            return False
        most, in_a_row = config.max_cached_steps, config.max_continuous_cached_steps
        cached, running = len(context.cached_steps), context.continuous_cached_steps
        return bool(0 <= most <= cached or 0 <= in_a_row <= running)

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

    def sign(self, hidden: torch.Tensor) -> None:
        """It has nothing to skip, and decides for other lists: there is nothing to store."""
        self.signature = signature_of(hidden, None)

    def remember_residual(self, residual: torch.Tensor, split: Split | None = None) -> None:
        """Keep the residual of the first F blocks for the next step's comparison.

        Args:
            residual: it, ``[b x ...]``.
            split: which samples are computed; of the others stays what is stored.
        """
        if split is not None:
            residual = split.put(self.manager.get_Fn_buffer(self.prefix_fn), split.part(residual))
        self.manager.remember(residual, self.prefix_fn)

    def store(
        self,
        hidden_in: torch.Tensor,
        hidden_out: torch.Tensor,
        encoder_in: torch.Tensor | None,
        encoder_out: torch.Tensor | None,
        split: Split | None = None,
    ) -> None:
        """Keep what the middle blocks added, for the steps that hit.

        Args:
            hidden_in: hidden states before the middle blocks, ``[b x s x d]``.
            hidden_out: after them, same shape.
            encoder_in: encoder hidden states before them, or None.
            encoder_out: after them, or None.
            split: which samples these are the rows of; None for all.
        """
        manager = self.manager
        manager.use(self.context)
        self.has_encoder = encoder_in is not None and encoder_out is not None
        after, before = [hidden_out.contiguous()], [hidden_in]
        residuals = [manager.is_cache_residual()]
        if encoder_in is not None and encoder_out is not None:
            after.append(encoder_out.contiguous())
            before.append(encoder_in)
            residuals.append(manager.is_encoder_cache_residual())
        if all(residuals):
            stored = list(torch._foreach_sub(after, before))  # one kernel for both
        else:  # never the output itself: what follows may write over it
            stored = [
                new - old if residual else new.clone()
                for new, old, residual in zip(after, before, residuals, strict=True)
            ]
        if split is not None:
            self._merge(stored, split)
        else:
            manager.set_Bn_buffer(stored[0], prefix=self.prefix_bn)
            if self.has_encoder:
                manager.set_Bn_encoder_buffer(stored[1], prefix=self.prefix_bn)
            self.signature = signature_of(hidden_in, encoder_in if self.has_encoder else None)
        # A block between may yield NaN while the first ones do not: the next difference shows it.
        # Of lists that decide together the last one tells of all that ran into it. Under a static
        # mask nothing is read.
        judge = self.leader or self
        compared = None if self.static else judge.manager.get_Fn_buffer(judge.prefix_fn)
        if compared is not None and judge.apart(compared.shape):
            taint_rows(compared, stored, None if split is None else split.index(compared))
        elif compared is not None and judge.watch(compared, self._telling(stored)):
            pass
        elif not taint(compared, stored):
            self.record.diffs[self.last_step] = math.nan
            self.forget()

    def _telling(self, stored: list[torch.Tensor]) -> list[torch.Tensor]:
        """What of a list shows whatever in it is no number.

        A block hands on to the next one, within a list and to lists that take the same decision; in
        the encoder hidden states of the last one alone it harms only blocks behind it.
        """
        if not self.ends:
            return []
        return stored if self.resolved.bn else stored[:1]

    def watch(self, compared: torch.Tensor, stored: Sequence[torch.Tensor]) -> bool:
        """Read with the next difference whether what is stored holds numbers."""
        self.manager.use(self.context)
        return self.manager.watch(self.prefix_fn, compared, stored)

    def _merge(self, stored: list[torch.Tensor], split: Split) -> None:
        """Keep the rows of some samples, and let those of the others stay."""
        manager, prefix = self.manager, self.prefix_bn
        forecasts(self, split.computed)
        for tensor, calibrator, get, put in zip(
            stored,
            self.context.get_calibrators(),
            (manager.get_Bn_buffer, manager.get_Bn_encoder_buffer),
            (manager.set_Bn_buffer, manager.set_Bn_encoder_buffer),
            strict=False,
        ):
            put(tensor if calibrator is not None else split.put(get(prefix), tensor), prefix=prefix)
        forecasts(self)

    @property
    def static(self) -> bool:
        """Whether a mask alone decides."""
        config = self.context.cache_config
        return (
            config.steps_computation_mask is not None
            and config.steps_computation_policy == "static"
        )

    def forget(self) -> None:
        """Nothing that is stored is used any more; the next step computes."""
        self.context.clear_buffers()
        for calibrator in self.context.get_calibrators():
            if calibrator is not None:
                calibrator.reset_cache()
        self.kept.clear()
        self.signature = None

    def fits(self, hidden: torch.Tensor, encoder: Any) -> bool:
        """Whether what is stored can be added to what runs through the list now.

        Args:
            hidden: hidden states before the middle blocks, ``[b x s x d]``.
            encoder: encoder hidden states before them; looked at where they are stored too.
        """
        return self.signature == signature_of(hidden, encoder if self.has_encoder else None)

    def apply(
        self, hidden: torch.Tensor, encoder: torch.Tensor | None, split: Split | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Replace the middle blocks: what they added last time, or its forecast.

        Args:
            hidden: hidden states before the middle blocks, ``[b x s x d]``.
            encoder: encoder hidden states before them, or None.
            split: which samples these are the rows of; None for all.
        """
        manager, prefix = self.manager, self.prefix_bn
        manager.use(self.context)
        encoder = encoder if self.has_encoder else None
        if split is not None:
            return self._apply_part(hidden, encoder, split)
        if encoder is None or not (
            manager.is_cache_residual() and manager.is_encoder_cache_residual()
        ):
            hidden, encoder = manager.apply_cache(
                hidden, encoder, prefix=prefix, encoder_prefix=prefix
            )
            return hidden, encoder
        stored = [manager.get_Bn_buffer(prefix), manager.get_Bn_encoder_buffer(prefix)]
        hidden, encoder = torch._foreach_add(stored, [hidden, encoder])  # one kernel for both
        return hidden.contiguous(), encoder.contiguous()

    def _apply_part(
        self, hidden: torch.Tensor, encoder: torch.Tensor | None, split: Split
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        manager, prefix = self.manager, self.prefix_bn
        forecasts(self, split.served)
        calibrators = self.context.get_calibrators()
        stored = manager.get_Bn_buffer(prefix)
        stored = stored if calibrators[0] is not None else split.part(stored, served=True)
        hidden = stored + hidden if manager.is_cache_residual() else stored
        if encoder is not None:
            stored = manager.get_Bn_encoder_buffer(prefix)
            stored = stored if calibrators[1] is not None else split.part(stored, served=True)
            encoder = stored + encoder if manager.is_encoder_cache_residual() else stored
        forecasts(self)
        return hidden, encoder

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

    def release(self) -> None:
        """Drop every tensor; the statistics stay, and nothing is stored any more."""
        free(self.context)
        self.samples = self.layout = None
        self.kept.clear()
        self.signature = None
