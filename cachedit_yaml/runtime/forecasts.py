"""A calibrator for each sample of a batch: those computed at other steps have other histories."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from cache_dit.caching.cache_contexts.calibrators import CalibratorBase

if TYPE_CHECKING:
    from cachedit_yaml.runtime.samples import Layout

#: What a calibrator derives from its history; it is derived again.
_DERIVED = ("_fit", "_fit_key")


class Forecasts(CalibratorBase):  # type: ignore[misc]
    """Stands in for cache-dit's calibrator of a whole batch.

    Args:
        calibrator: what it has seen so far holds for every sample.
        layout: which rows belong to which sample.

    Attributes:
        samples: those whose rows come and go; None for all.
    """

    def __init__(self, calibrator: CalibratorBase, layout: Layout) -> None:
        self._layout = layout
        self._each = [_part(calibrator, layout, [sample]) for sample in range(layout.samples)]
        self.samples: Sequence[int] | None = None

    def anew(self) -> CalibratorBase:
        """One for a whole batch, that has seen nothing."""
        self._each[0].reset_cache()
        return self._each[0]

    @property
    def _now(self) -> Sequence[int]:
        return range(len(self._each)) if self.samples is None else self.samples

    def _places(self, rows: int) -> list[list[int]]:
        """Where each sample's rows are among those that come or go."""
        layout, now = self._layout, self._now
        total = rows * layout.samples // len(now)
        order = {row: place for place, row in enumerate(layout.rows_of(now, total))}
        return [[order[row] for row in layout.rows_of([sample], total)] for sample in now]

    def mark_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """A step begins."""
        for calibrator in self._each:
            calibrator.mark_step_begin(*args, **kwargs)

    def reset_cache(self, *args: Any, **kwargs: Any) -> None:
        """Forget all."""
        for calibrator in self._each:
            calibrator.reset_cache(*args, **kwargs)

    def forget(self, samples: Iterable[int]) -> None:
        """Forget what was seen of some samples."""
        for sample in samples:
            self._each[sample].reset_cache()

    def update(self, tensor: torch.Tensor, name: str = "default") -> None:
        """The samples were computed.

        Args:
            tensor: their rows, ``[r x ...]``.
            name: of what is stored.
        """
        for sample, places in zip(self._now, self._places(len(tensor)), strict=True):
            self._each[sample].update(tensor[_index(places, tensor)], name=name)

    def approximate(self, name: str = "default") -> torch.Tensor:
        """A forecast of the samples' rows, ``[r x ...]``."""
        parts = [self._each[sample].approximate(name=name) for sample in self._now]
        joined = torch.cat(parts)
        order = [place for places in self._places(len(joined)) for place in places]
        if order == sorted(order):
            return joined
        back = sorted(range(len(order)), key=order.__getitem__)
        return joined[_index(back, joined)]


def _index(places: list[int], tensor: torch.Tensor) -> Any:
    if places == list(range(places[0], places[-1] + 1)):
        return slice(places[0], places[-1] + 1)
    return torch.tensor(places, device=tensor.device)


def _part(value: Any, layout: Layout, samples: list[int]) -> Any:
    """A copy of what a calibrator holds, with the rows of some samples."""
    if isinstance(value, torch.Tensor):
        if not value.ndim or value.shape[0] % layout.count:
            return value.clone()
        return value[_index(layout.rows_of(samples, value.shape[0]), value)].clone()
    if isinstance(value, (list, tuple)):
        return type(value)([_part(item, layout, samples) for item in value])
    if isinstance(value, dict):
        return {key: _part(item, layout, samples) for key, item in value.items()}
    if type(value).__module__.partition(".")[0] != "cache_dit":
        return value
    made = copy.copy(value)
    for name, item in vars(value).items():
        derived = name in _DERIVED
        setattr(made, name, None if derived else _part(item, layout, samples))
    return made
