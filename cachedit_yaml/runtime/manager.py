"""cache-dit's context manager, as our hooks use it: without wrappers, and for groups of ranks."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from cache_dit.caching.cache_contexts.cache_context import CachedContext
from cache_dit.caching.cache_contexts.cache_manager import CachedContextManager

from cachedit_yaml.compiler.parallel import Ranks, average
from cachedit_yaml.runtime.doubts import Doubt, read_with


class ContextManager(CachedContextManager):  # type: ignore[misc]
    """cache-dit's manager without its ``torch.compiler.disable`` wrappers.

    Our hooks are never traced, and the wrappers (75 to 89 calls a forward) are most of what
    cache-dit costs on a small transformer.

    Attributes:
        ranks: those that decide alike.
        ahead: what the next comparison would read, where it was read with others; see
            :func:`read_together`.
        doubt: whether the forward is the branch's own, where values have to tell.
        epoch: how often the branch had turned out to be another one when it was asked last.
    """

    ranks: Ranks | None = None
    ahead: list[float] | None = None
    doubt: Doubt | None = None
    epoch: int = 0

    def use(self, context: CachedContext) -> None:
        """Make a context the current one."""
        self._current_context = context

    def similarity(
        self,
        t1: torch.Tensor,
        t2: torch.Tensor,
        *,
        threshold: float,
        parallelized: bool = False,
        prefix: str = "Fn",
    ) -> bool:
        """Whether two residuals are similar, to all ranks that run the forward.

        cache-dit asks all ranks of the program. An engine has others too, which work on another
        guidance branch or another request, and may not even be asked.
        """
        ranks = self.ranks
        measured = 0.0 < threshold < 1.0 and t1.shape == t2.shape
        if measured and not parallelized and not self.get_important_condition_threshold() > 0.0:
            # cache-dit's own numbers, of which the last is divided here: what else is to be known
            # is read with them, and that costs the kernel that dividing would.
            found = self.ahead or read_with(self.doubt, self._numbers(t1, t2, prefix))
            self.remove_buffer(f"{prefix}_watched")  # numbers, or there is nothing left to hit
            if self.doubt is not None and self.doubt.another:
                return False  # how far another prompt is off tells nothing
            difference, magnitude, *means = found
            relative = divided(difference, magnitude, t1.dtype)
            if not all(map(math.isfinite, means)):
                relative = math.nan
            self.add_residual_diff(relative)
            return relative < threshold
        if not parallelized or ranks is None or ranks.group is None or not measured:
            # Without a measurement, nobody is asked.
            return bool(
                _similarity(
                    self, t1, t2, threshold=threshold, parallelized=parallelized, prefix=prefix
                )
            )
        difference, size = (t1 - t2).abs(), t1.abs()
        important = self.get_important_condition_threshold()
        if important > 0.0:
            chosen = difference.mean(dim=-1) / size.mean(dim=-1) > important
            if chosen.any():
                difference, size = difference[chosen], size[chosen]
        mean_difference, mean_size = average(
            torch.stack([difference.mean(), size.mean()]), ranks
        ).tolist()
        relative = mean_difference / mean_size
        self.add_residual_diff(relative)
        return bool(relative < threshold)

    def differences(
        self,
        t1: torch.Tensor,
        t2: torch.Tensor,
        rows: int,
        ranks: Ranks | None,
        *,
        prefix: str,
    ) -> torch.Tensor:
        """The relative difference of each of some equal parts of two residuals, ``[rows]``.

        Args:
            t1: what is stored under the prefix, ``[b x ...]``.
            t2: the residual now.
            rows: how many parts; `b` is a multiple of it.
            ranks: those that run the forward together; they take the mean of theirs.
            prefix: as above.
        """
        sizes: torch.Tensor | None = self.get_buffer(f"{prefix}_sizes")
        if sizes is None or len(sizes) != rows:
            sizes = t1.abs().reshape(rows, -1).mean(1)
            self.set_buffer(f"{prefix}_sizes", sizes)
        apart = (t1 - t2).abs().reshape(rows, -1).mean(1)
        if ranks is not None:
            apart, sizes = average(torch.stack([apart, sizes]), ranks)
        return apart / sizes

    def _apart(
        self, t1: torch.Tensor, t2: torch.Tensor, prefix: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean magnitudes of what parts two residuals, and of the one stored under a prefix."""
        size: torch.Tensor | None = self.get_buffer(f"{prefix}_size")
        if size is not None:  # measured the last time
            return (t1 - t2).abs().mean(), size
        apart, size = (item.mean() for item in torch._foreach_abs([t1 - t2, t1]))  # one kernel
        self.set_buffer(f"{prefix}_size", size)
        return apart, size

    def watch(self, prefix: str, compared: torch.Tensor, stored: Sequence[torch.Tensor]) -> bool:
        """Let the next difference be none where something stored is no number.

        Args:
            prefix: of what the next residual is compared with.
            compared: that.
            stored: tensors whose means are read with the difference, once.

        Returns:
            Whether they can be: not with another type, on another device or among ranks.
        """
        if self.ranks is not None or self.get_important_condition_threshold() > 0.0:
            return False
        kind = compared.dtype, compared.device
        if any((tensor.dtype, tensor.device) != kind for tensor in stored):
            return False
        if stored:
            self.set_buffer(f"{prefix}_watched", (*self._watched(prefix), *stored))
        return True

    def _watched(self, prefix: str) -> tuple[torch.Tensor, ...]:
        return self.get_buffer(f"{prefix}_watched") or ()

    def _numbers(self, t1: torch.Tensor, t2: torch.Tensor, prefix: str) -> torch.Tensor:
        """What a comparison reads, ``[2 + watched]``."""
        apart, size = self._apart(t1, t2, prefix)
        return torch.stack([apart, size, *(item.mean() for item in self._watched(prefix))])

    def numbers(self, residual: torch.Tensor, prefix: str) -> torch.Tensor | None:
        """What the next comparison with what is stored reads; None where it reads nothing, or more.

        Args:
            residual: the residual now, ``[...]``.
            prefix: of what is stored.
        """
        stored = self.get_Fn_buffer(prefix)
        if stored is None or stored.shape != residual.shape or self.get_downsample_factor() > 1:
            return None
        if self.get_important_condition_threshold() > 0.0:
            return None
        measured = 0.0 < self.get_residual_diff_threshold() < 1.0 and not self.is_in_warmup()
        return self._numbers(stored, residual, prefix) if measured else None

    def remember(self, residual: torch.Tensor, prefix: str) -> None:
        """Store what later steps are compared with."""
        for what in ("size", "sizes", "watched"):
            self.remove_buffer(f"{prefix}_{what}")
        self.set_Fn_buffer(residual, prefix=prefix)


@contextmanager
def read_together(
    asked: Iterable[tuple[ContextManager, str, torch.Tensor]],
) -> Iterator[None]:
    """What several are about to compare is read at once, so that the host waits once.

    Args:
        asked: the managers, each with the prefix of what is stored and the residual now.
    """
    found = [(manager, manager.numbers(own, prefix)) for manager, prefix, own in asked]
    measured = [(manager, numbers) for manager, numbers in found if numbers is not None]
    if len(measured) > 1:
        values = torch.cat([numbers for _, numbers in measured]).tolist()
        for manager, numbers in measured:
            manager.ahead, values = values[: len(numbers)], values[len(numbers) :]
    try:
        yield
    finally:
        for manager, _ in measured:
            manager.ahead = None


def divided(one: float, other: float, dtype: torch.dtype) -> float:
    """One number by another, rounded as tensors of a type would be."""
    if other == 0.0 or not (math.isfinite(one) and math.isfinite(other)):
        return math.nan if one == 0.0 or not math.isfinite(one) else math.inf
    value = one / other
    if dtype is torch.float64:
        return value
    try:
        value = _as("f", value)
        if dtype is torch.float16:
            value = _as("e", value)
    except OverflowError:
        return math.inf
    if dtype is torch.bfloat16:  # the upper half of a float32, to the nearest, ties to even
        bits = int.from_bytes(struct.pack("<f", value), "little")
        bits += 0x7FFF + (bits >> 16 & 1)
        return float(struct.unpack("<f", (bits & 0xFFFF0000).to_bytes(4, "little"))[0])
    return value


def _as(form: str, value: float) -> float:
    return float(struct.unpack(form, struct.pack(form, value))[0])


def free(context: CachedContext) -> None:
    """Drop every tensor that a context holds."""
    context.clear_buffers()
    context.calibrator = context.encoder_calibrator = None
    context.cfg_calibrator = context.cfg_encoder_calibrator = None


def _without_wrapper(function: Any) -> Any:
    return getattr(function, "_torchdynamo_orig_callable", function)


_similarity = _without_wrapper(CachedContextManager.similarity)
for _name, _function in vars(CachedContextManager).items():
    if _name not in vars(ContextManager) and _without_wrapper(_function) is not _function:
        setattr(ContextManager, _name, _without_wrapper(_function))
del _name, _function
