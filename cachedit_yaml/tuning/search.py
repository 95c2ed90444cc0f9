"""Settings worth a real run: all of a grid, simulated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
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
