"""The errors of many masks, put together from those of the cached steps between computed ones.

What the cached steps behind a computed one come to depends on it, on the two before it, and on the
next one. Masks that are alike share nearly all such gaps, so each is worked out once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from cachedit_yaml.generating.samples import Array
from cachedit_yaml.tuning.surrogate import APART, Surrogate, errors_of
from cachedit_yaml.tuning.units import Unit

#: Bytes that gaps may be kept in.
_BYTES: Final = 128 * 2**20


class Gaps:
    """Scores masks as :meth:`Surrogate.mask` does, faster.

    Args:
        surrogate: what was traced; its masks have F = 0.
        order: of TaylorSeer.
    """

    def __init__(self, surrogate: Surrogate, order: int) -> None:
        self._surrogate = surrogate
        self._order = order
        self._steps = surrogate.steps or 0
        # Units whose errors add up: of a call, and of a shape.
        self._groups: list[list[Unit]] = []
        for call in surrogate.calls:
            by_shape: dict[tuple[int, ...], list[Unit]] = {}
            for unit in call:
                by_shape.setdefault(unit.errors[0, 0].shape[2:], []).append(unit)
            self._groups += by_shape.values()
        shapes = [group[0].errors[0, 0].shape[2:] for group in self._groups]
        self._samples = sum(shape[0] for shape in shapes)
        size = 4 * sum(math.prod(shape) for shape in shapes)
        self._gap = functools.lru_cache(max(_BYTES // max(size, 1), 256))(self._new_gap)
        every = list(range(self._steps))
        self._whole = all(unit.steps == every for unit in surrogate.units)

    def error(self, computed: Sequence[int]) -> float:
        """What :attr:`Candidate.error` of the mask is; the first step is among those computed."""
        computed = sorted(computed)
        if not self._whole:
            chosen = set(computed)
            mask = [int(step in chosen) for step in range(self._steps)]
            return self._surrogate.mask(mask, self._order).error
        total: Array | float = 0.0
        apart = 0.0
        for place, end in enumerate([*computed[1:], self._steps], 1):
            if end > computed[place - 1] + 1:
                known = computed[max(place - 1 - self._order, 0) : place]
                found = self._gap(tuple(known), end)
                if found is None:
                    return math.inf
                total = total + found[0]
                apart += found[1]
        whole = float(np.square(total).sum())
        return math.sqrt(((1 - APART) * whole + APART * apart) / self._samples)

    def _new_gap(self, computed: tuple[int, ...], end: int) -> tuple[Array, float] | None:
        """What the cached steps up to `end` add, of all samples in a row, and its square."""
        cached = np.arange(computed[-1] + 1, end)
        sums = []
        for group in self._groups:
            total: Array | float = 0.0
            for unit in group:
                steps = np.asarray(unit.steps)
                error = errors_of(
                    unit.errors[0, 0], steps, np.asarray(computed), cached, self._order
                )
                if error is None:
                    return None
                total = total + error.sum(axis=0)
            sums.append(np.ravel(total))
        found = np.concatenate(sums)
        return found, float(np.square(found).sum())
