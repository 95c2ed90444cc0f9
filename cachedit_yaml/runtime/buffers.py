"""What a guidance branch of a block list stores of a step, and gives back on a hit."""

from __future__ import annotations

import math
from typing import Any

import torch

from cachedit_yaml.compiler.parallel import Ranks
from cachedit_yaml.runtime.contexts import BranchContext
from cachedit_yaml.runtime.residuals import signature_of, taint, taint_rows
from cachedit_yaml.runtime.rows import Split
from cachedit_yaml.runtime.samples import decide, forecasts


class BranchState(BranchContext):
    """The cache of one guidance branch of one block list, for one generation.

    Attributes:
        called: bit set of the middle blocks that the last computed step called.
        last_middle: the last of them, after which a hit applies the cache; -1 before the first.
        kept: what else the middle blocks' outputs held on the last computed step, by block.
        has_encoder: encoder hidden states are stored too; the last block may return none.
        replaced: shape of the encoder hidden states that the loop puts in the place of those that
            entered the list; None where it does not.
        ends: whether no list comes behind this one that takes the same decision.
    """

    __slots__ = (
        "called",
        "ends",
        "has_encoder",
        "kept",
        "last_middle",
        "prefix_bn",
        "replaced",
    )

    ends: bool

    def _new_context(self) -> None:
        super()._new_context()
        residual = self.manager.is_cache_residual()
        self.prefix_bn = f"{self.manager.name}_Bn_{'residual' if residual else 'hidden_states'}"
        self.called = 0
        self.kept: dict[int, Any] = {}
        self.last_middle = -1
        self.has_encoder = False
        self.replaced: torch.Size | None = None

    def fits(self, hidden: torch.Tensor, encoder: Any) -> bool:
        """Whether what is stored can be added to what runs through the list now.

        Args:
            hidden: hidden states before the middle blocks, ``[b x s x d]``.
            encoder: encoder hidden states before them; looked at where they are stored too.
        """
        return self.signature == signature_of(hidden, encoder if self.has_encoder else None)

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
        served = fits and any(hits)
        asked = self.manager.doubt is not None and self.manager.doubt.asked
        return hits if not ((served or asked) and self.denied()) and served else (False,)

    def denied(self) -> bool:
        """Whether what is stored may be another prompt's; then it is forgotten.

        What a calibrator has gathered may, when the last computed step was this prompt's.
        """
        manager, doubt = self.manager, self.manager.doubt
        if doubt is None:
            return False
        another, known = doubt.another, manager.epoch
        manager.epoch = doubt.epoch
        gathered = any(item is not None for item in self.context.get_calibrators())
        if another or (gathered and known != doubt.epoch):
            self.forget()
            return True
        return False

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
            if not found and self.manager.epoch != leader.manager.epoch:
                self.denied()
        served = found and self.unfit is None and self.fits(hidden, encoder)
        return hits if served and not self.denied() else (False,)

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

    def forget(self) -> None:
        """Nothing that is stored is used any more; the next step computes."""
        super().forget()
        self.kept.clear()

    def release(self) -> None:
        """Drop every tensor; the statistics stay, and nothing is stored any more."""
        super().release()
        self.kept.clear()
