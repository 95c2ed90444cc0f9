"""Settings worth a real run: all of a grid, simulated, and masks found by swaps."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from cachedit_yaml.tuning.surrogate import Candidate, Surrogate

WARMUPS: Final = (1, 2, 3, 4, 6, 8)
IN_A_ROW: Final = (1, 2, 3, 4, 5, 6, 7, 8, 10)
_THRESHOLDS: Final = 24


def settings(surrogate: Surrogate) -> list[Candidate]:
    """All settings of a grid that the trace can simulate."""
    found = {}
    for fn in sorted({fn for unit in surrogate.units for fn in unit.differences}):
        seen = np.concatenate([unit.differences[fn].ravel() for unit in surrogate.units])
        seen = seen[np.isfinite(seen) & (seen > 0)]
        if not len(seen):
            continue
        low, high = np.quantile(seen, 0.01), min(float(seen.max()) * 1.05, 0.99)
        thresholds = {float(f"{value:.2g}") for value in np.geomspace(low, high, _THRESHOLDS)}
        for warmup, in_a_row, threshold, order in itertools.product(
            WARMUPS, IN_A_ROW, sorted(thresholds), (0, 1)
        ):
            item = surrogate.dynamic(
                fn=fn, warmup=warmup, threshold=threshold, in_a_row=in_a_row, order=order
            )
            found[item.key] = item
    return [item for item in found.values() if 0 < item.error < np.inf and item.blocks < 1]


def masks(surrogate: Surrogate, shares: Iterable[float]) -> list[Candidate]:
    """The best mask that swaps find for each share of computed steps."""
    steps = surrogate.steps
    if steps is None or any((0, 0) not in unit.errors for unit in surrogate.units):
        return []
    counts = sorted({min(max(round(share * steps), 1), steps) for share in shares})
    found = []
    last: list[int] | None = None
    for count in counts:
        if count >= steps:
            continue
        starts = [_even(steps, count)]
        if last is not None:
            starts.append(_grown(last, steps, count))
        tried = [_swapped(surrogate, start, steps) for start in starts]
        best, computed = min(tried, key=lambda pair: pair[0].error)
        if 0 < best.error < np.inf:
            found.append(best)
            last = computed
    return found


def _even(steps: int, count: int) -> list[int]:
    """Computed steps at even distances, the first among them."""
    return sorted({int(place * steps / count) for place in range(count)})


def _grown(computed: list[int], steps: int, count: int) -> list[int]:
    """More computed steps, in the middle of the longest runs without one."""
    computed = list(computed)
    while len(computed) < count:
        ends = [*computed, steps]
        start, end = max(itertools.pairwise(ends), key=lambda pair: pair[1] - pair[0])
        computed = sorted([*computed, (start + end) // 2])
    return computed


def _mask(computed: Iterable[int], steps: int) -> list[int]:
    chosen = set(computed)
    return [int(place in chosen) for place in range(steps)]


def _swapped(
    surrogate: Surrogate, computed: Sequence[int], steps: int
) -> tuple[Candidate, list[int]]:
    """Move one computed step at a time, as long as that makes it better; the first one stays.

    Returns:
        The mask, and its computed steps.
    """
    chosen = list(computed)
    best = surrogate.mask(_mask(chosen, steps))
    improved = True
    while improved:
        improved = False
        for index in range(1, len(chosen)):
            for place in range(1, steps):
                if place in chosen:
                    continue
                tried = [*chosen[:index], place, *chosen[index + 1 :]]
                item = surrogate.mask(_mask(tried, steps))
                if item.error < best.error:
                    best, chosen, improved = item, tried, True
    return best, sorted(chosen)


def front(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Those that no cheaper one equals, from cheap to dear."""
    found: list[Candidate] = []
    for item in sorted(candidates, key=lambda item: (item.blocks, item.error)):
        if not found or item.error < found[-1].error:
            found.append(item)
    return found
