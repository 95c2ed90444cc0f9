"""Settings worth a real run: all of a grid, simulated, and masks found by swaps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from cachedit_yaml.tuning.candidates import Candidate
from cachedit_yaml.tuning.surrogate import Surrogate

WARMUPS: Final = (1, 2, 3, 4, 6, 8)
IN_A_ROW: Final = (1, 2, 3, 4, 5, 6, 7, 8, 10)
#: Of TaylorSeer; 0 is none.
ORDERS: Final = (0, 1, 2)
_THRESHOLDS: Final = 24
#: How thresholds of a list differ from those of the others.
FACTORS: Final = (0.5, 0.7, 1.4, 2.0)


def settings(surrogate: Surrogate) -> list[Candidate]:
    """All settings of a grid that the trace can simulate."""
    found = {}
    variants = {pair for unit in surrogate.units for pair in unit.errors if pair[0]}
    for fn, bn in sorted(variants):
        known = [unit.differences[fn].ravel() for unit in surrogate.units if fn in unit.differences]
        seen = np.concatenate(known)
        seen = seen[np.isfinite(seen) & (seen > 0)]
        if not len(seen):
            continue
        low, high = np.quantile(seen, 0.01), min(float(seen.max()) * 1.05, 0.99)
        thresholds = {float(f"{value:.2g}") for value in np.geomspace(low, high, _THRESHOLDS)}
        for warmup, in_a_row, threshold, order in itertools.product(
            WARMUPS, IN_A_ROW, sorted(thresholds), ORDERS
        ):
            item = surrogate.dynamic(
                fn=fn, bn=bn, warmup=warmup, threshold=threshold, in_a_row=in_a_row, order=order
            )
            found[item.key] = item
    return [item for item in found.values() if 0 < item.error < np.inf and item.blocks < 1]


def refined(surrogate: Surrogate, items: Iterable[Candidate]) -> list[Candidate]:
    """Settings with fewer cached steps in all, and with other thresholds for one of the lists."""
    names = surrogate.deciding
    steps = surrogate.steps or 0
    found = []
    for item in items:
        limits = surrogate.limits(item)
        hits = math.ceil((1 - item.blocks) * steps)
        for most in sorted({hits - 1, round(0.85 * hits), round(0.7 * hits)}):
            if 0 < most < hits:
                found.append(surrogate.dynamic(**limits, most=most))
        for name, factor in itertools.product(names if len(names) > 1 else (), FACTORS):
            own = float(f"{factor * limits['threshold']:.2g}")
            if own < 1:
                found.append(surrogate.dynamic(**limits, lists={name: own}))
    return [item for item in found if 0 < item.error < np.inf and item.blocks < 1]


def masks(surrogate: Surrogate, shares: Iterable[float], order: int = 1) -> list[Candidate]:
    """The best mask that swaps find for each share of computed steps, with TaylorSeer."""
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
        tried = [_swapped(surrogate, start, steps, order) for start in starts]
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
    surrogate: Surrogate, computed: Sequence[int], steps: int, order: int
) -> tuple[Candidate, list[int]]:
    """Move one computed step at a time, as long as that makes it better; the first one stays.

    Returns:
        The mask, and its computed steps.
    """
    chosen = list(computed)
    best = surrogate.mask(_mask(chosen, steps), order)
    improved = True
    while improved:
        improved = False
        for index in range(1, len(chosen)):
            for place in range(1, steps):
                if place in chosen:
                    continue
                tried = [*chosen[:index], place, *chosen[index + 1 :]]
                item = surrogate.mask(_mask(tried, steps), order)
                if item.error < best.error:
                    best, chosen, improved = item, tried, True
    return best, sorted(chosen)


def near_fronts(candidates: Iterable[Candidate]) -> list[Candidate]:
    """What may be worth a run: of those that do the same one, and none that is far from the front
    of its order of TaylorSeer, which is what the trace errs on most."""
    found: dict[tuple[Any, ...], Candidate] = {}
    for item in candidates:
        key = item.family[0], round(item.blocks, 3), float(f"{item.error:.2g}")
        found.setdefault(key, item)
    ahead = fronts(found.values())
    # Near the front too: the trace orders what it proposes, but not to the last dB.
    return [
        item
        for item in found.values()
        if any(
            item.error <= 1.5 * one.error and item.blocks <= one.blocks + 0.02
            for one in ahead[item.family[0]]
        )
    ]


def fronts(candidates: Iterable[Candidate]) -> dict[int, list[Candidate]]:
    """The front of each order of TaylorSeer."""
    items = list(candidates)
    return {order: front(item for item in items if item.family[0] == order) for order in ORDERS}


def front(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Those that no cheaper one equals, from cheap to dear."""
    found: list[Candidate] = []
    for item in sorted(candidates, key=lambda item: (item.blocks, item.error)):
        if not found or item.error < found[-1].error:
            found.append(item)
    return found
