"""One run through a block list: which blocks run, which return their inputs.

With F = Fn_compute_blocks and B = Bn_compute_blocks of N blocks, blocks 0..F-1 and N-B..N-1 always
run. On a hit the blocks between return their inputs and the last of them returns what cache-dit
makes of the stored residual; on a miss they run and what they added is stored. The transformer's
own loop, with whatever else its body does, is left alone. What decides between the two is in
:mod:`cachedit_yaml.runtime.deciding`, what is stored in :mod:`cachedit_yaml.runtime.storing`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch

from cachedit_yaml.runtime import deciding, rows, storing
from cachedit_yaml.runtime.blocks import ListRunner
from cachedit_yaml.runtime.identity import shape_of, version_of
from cachedit_yaml.runtime.rows import DeviationError, Split
from cachedit_yaml.runtime.shared import Cache


class ListPass:
    """One run through a block list within one forward of the transformer.

    Attributes:
        hit: whether the middle blocks are served from the cache.
        split: which samples of the batch are; None where all are treated alike.
    """

    __slots__ = (
        "applied",
        "begin",
        "branch",
        "called",
        "decided",
        "encoder",
        "encoder_shape",
        "end",
        "entry",
        "entry_version",
        "first_encoder",
        "first_hidden",
        "first_versions",
        "fn",
        "fn_output",
        "hit",
        "last_index",
        "last_out",
        "outputs",
        "place",
        "primary",
        "round",
        "runner",
        "split",
        "step",
        "stored",
    )

    def __init__(
        self,
        runner: ListRunner,
        step: int,
        begin: Callable[[ListRunner, int], tuple[Cache, Any]],
        place: int = 0,
    ) -> None:
        self.runner = runner
        self.step = step
        self.place = place
        self.begin = begin
        self.round = -1
        self.last_index = len(runner.hooks)

    def _start_round(self) -> None:
        """The loop enters the list, for the first time in this forward or once more."""
        self.round += 1
        self.branch, self.primary = self.begin(self.runner, self.round)
        self.branch.begin_step(self.step, self.place)
        resolved = self.branch.resolved
        self.fn = resolved.fn
        self.end = len(self.runner.hooks) - resolved.bn
        self.hit = self.decided = self.stored = False
        self.split: Split | None = None
        self.branch.ends = self.runner is self.runner.group[-1]
        together = len(self.runner.group) > 1
        if self.fn >= self.end and not (together and self.runner.leader is None):
            self.branch.unfit = deciding.NOTHING_TO_SKIP
        self.entry: torch.Tensor | None = None
        self.first_hidden: torch.Tensor | None = None
        self.first_encoder: torch.Tensor | None = None
        self.applied: tuple[torch.Tensor, torch.Tensor | None] | None = None
        self.encoder: Any = None
        self.encoder_shape: torch.Size | None = None
        self.fn_output: Any = None
        self.last_out: tuple[torch.Tensor, Any, int] | None = None
        # What the middle blocks return, while it is not known whether later ones take it.
        watch = (resolved.bn > 0 or together) and self.branch.signature is None
        self.outputs: list[weakref.ref[torch.Tensor]] | None = [] if watch else None
        self.called = 0

    def call(
        self,
        index: int,
        inner: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Stand in for block ``index``."""
        if index <= self.last_index:
            if self.round >= 0:
                self.close()
            self._start_round()
        self.last_index = index
        record = self.branch.record
        record.total_blocks += 1
        if self.fn <= index < self.end:
            if not self.decided:
                self.decided = True
                if self.fn == 0:
                    deciding.before(self, args, kwargs)
                elif self.fn_output is not None:
                    # The loop left block F-1 out (skipped layers): the last one before it decides.
                    hidden, self.encoder = self.runner.split(self.fn_output)
                    deciding.after(self, hidden)
            return self._middle(index, inner, args, kwargs)
        record.computed_blocks += 1
        if index >= self.end:
            self.close()
            if self.outputs is not None:
                storing.look_for_skips(self, args, kwargs)
            return inner(*args, **kwargs)
        if self.entry is None:
            self.entry = self.keep(self.runner.plan.binding.hidden.get(args, kwargs))
            self.entry_version = version_of(self.entry)
        output = inner(*args, **kwargs)
        if index == self.fn - 1:
            self.decided = True
            hidden, self.encoder = self.runner.split(output)
            deciding.after(self, hidden)
        else:
            self.fn_output = output
        return output

    def _middle(
        self,
        index: int,
        inner: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        binding, runner, branch = self.runner.plan.binding, self.runner, self.branch
        self.called |= 1 << index
        if self.split is not None:
            return rows.middle(self, index, inner, args, kwargs)
        if self.hit:
            hidden = binding.hidden.get(args, kwargs)
            rest = binding.encoder.get(args, kwargs) if binding.encoder else self.encoder
            if self.applied is None:
                # At once, because the loop's body may change these tensors in place.
                encoder = rest if isinstance(rest, torch.Tensor) and self.keeps_encoder else None
                self.applied = branch.apply(hidden, encoder)
            if index == branch.last_middle:
                self.stored = True
                hidden, encoder = self.applied
                if branch.replaced is not None and shape_of(rest) != branch.replaced:
                    branch.unfit = storing.CHANGES_SHAPE
                    raise DeviationError
                rest = rest if encoder is None else encoder
            return runner.join(hidden, rest, branch.kept.get(index))
        branch.record.computed_blocks += 1
        if self.first_hidden is None:
            hidden = binding.hidden.get(args, kwargs)
            rest = binding.encoder.get(args, kwargs) if binding.encoder else self.encoder
            self.first_hidden = self.keep(hidden)
            keeps = isinstance(rest, torch.Tensor) and self.keeps_encoder
            self.first_encoder = self.keep(rest) if keeps else None
            self.first_versions = version_of(self.first_hidden), version_of(self.first_encoder)
        if binding.encoder is not None:
            rest = binding.encoder.get(args, kwargs)
            self.encoder_shape = rest.shape if isinstance(rest, torch.Tensor) else None
        output = inner(*args, **kwargs)
        hidden, rest = runner.split(output)
        if runner.entries is not None:
            branch.kept[index] = runner.entries.rest(output)
        if self.outputs is not None:
            self.outputs.append(weakref.ref(hidden))
        if index == self.end - 1:
            storing.whole(self, hidden, rest, index)
        else:
            # Kept in case the loop leaves the last of the middle blocks out.
            self.last_out = hidden, rest, version_of(hidden)
        return output

    @property
    def hits(self) -> tuple[bool, ...]:
        """For each sample whether it is served from the cache; a single answer where all are."""
        return (self.hit,) if self.split is None else self.split.hits

    @property
    def keeps_encoder(self) -> bool:
        """Whether what the blocks do to the encoder hidden states is cached too."""
        plan = self.runner.plan
        return plan.pattern.returns_encoder and not plan.binding.passes

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor that is needed after more blocks have run.

        In inference mode tensors do not count what is written over them, so they are cloned.
        """
        return tensor.clone() if self.runner.in_place or tensor.is_inference() else tensor

    def close(self) -> None:
        """The loop has left the middle blocks.

        Raises:
            DeviationError: it called others than on the step whose residual is applied.
        """
        if self.hit or self.split is not None:
            if not self.stored or self.called != self.branch.called:
                raise DeviationError
        elif not self.stored and self.last_out is not None:
            hidden, rest, version = self.last_out
            if version_of(hidden) == version:
                storing.whole(self, hidden, rest, self.called.bit_length() - 1)
            else:
                self.branch.signature = None
                self.stored = True
        self.branch.settle()

    @property
    def in_middle(self) -> bool:
        """Whether the loop stands between the first and the last of the middle blocks."""
        return self.round >= 0 and self.last_index < self.end - 1 and not self.stored
