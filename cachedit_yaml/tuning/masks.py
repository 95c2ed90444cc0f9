"""Masks worth a real run: found by swaps on the trace, and those beside one that came out well."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from cachedit_yaml.tuning.candidates import Candidate, family_of, mask_in
from cachedit_yaml.tuning.gaps import Gaps
from cachedit_yaml.tuning.surrogate import Surrogate

#: How far a computed step is moved, and how far all behind or before it are.
_MOVES: Final = (-2, -1, 1, 2)
_SHIFTS: Final = (-1, 1)
#: What the trace takes for so many times worse is not looked at.
_WORSE: Final = 1.5
#: Of masks with one computed step more, and of those with one less, so many.
_OTHERS: Final = 4


def masks(surrogate: Surrogate, shares: Iterable[float], order: int = 1) -> list[Candidate]:
    """The best mask that swaps find for each share of computed steps, with TaylorSeer."""
    steps = surrogate.steps
    if steps is None or any((0, 0) not in unit.errors for unit in surrogate.units):
        return []
    counts = sorted({min(max(round(share * steps), 1), steps) for share in shares})
    gaps = Gaps(surrogate, order)
    found = []
    last: list[int] | None = None
    for count in counts:
        if count >= steps:
            continue
        starts = [_even(steps, count)]
        if last is not None:
            starts.append(_grown(last, steps, count))
        error, computed = min(_swapped(gaps, start, steps) for start in starts)
        if 0 < error < np.inf:
            found.append(surrogate.mask(_mask(computed, steps), order))
            last = computed
    return found


def beside(surrogate: Surrogate, settings: Mapping[str, Any]) -> list[Candidate]:
    """Masks that differ little from one: a step or a run of them moved, one more, one less."""
    mask, order = mask_in(settings), family_of(settings)[0]
    steps, computed = len(mask), [step for step, flag in enumerate(mask) if flag]
    own = surrogate.mask(mask, order)

    def scored(ways: Iterable[tuple[int, ...]]) -> list[Candidate]:
        # The first step stays, and none falls on another or off the end.
        sound = [
            way
            for way in sorted(set(ways))
            if len(set(way)) == len(way) and sorted(way)[:1] == [0] and max(way) < steps
        ]
        items = [surrogate.mask(_mask(way, steps), order) for way in sound]
        return sorted(items, key=lambda item: item.error)

    found = [item for item in scored(_moved(computed)) if item.error <= _WORSE * own.error]
    found += scored(_more([*computed, steps]))[:_OTHERS] + scored(_less(computed))[:_OTHERS]
    return [item for item in found if 0 < item.error < np.inf and item.key != own.key]


def _moved(computed: Sequence[int]) -> Iterator[tuple[int, ...]]:
    first, *rest = computed
    for index, far in itertools.product(range(len(rest)), _MOVES):
        yield (first, *sorted([*rest[:index], rest[index] + far, *rest[index + 1 :]]))
    for index, far in itertools.product(range(len(rest)), _SHIFTS):
        yield (first, *rest[:index], *(step + far for step in rest[index:]))
        yield (first, *(step + far for step in rest[: index + 1]), *rest[index + 1 :])


def _more(ends: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for step, end in itertools.pairwise(ends):
        if end > step + 1:
            yield tuple(sorted([*ends[:-1], (step + end) // 2]))


def _less(computed: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for index in range(1, len(computed)):
        yield (*computed[:index], *computed[index + 1 :])


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
    """One number a step: 1 where it is computed."""
    chosen = set(computed)
    return [int(place in chosen) for place in range(steps)]


def _swapped(gaps: Gaps, computed: Sequence[int], steps: int) -> tuple[float, list[int]]:
    """Move one computed step at a time, as long as that makes it better; the first one stays.

    Returns:
        The error of the mask, and its computed steps.
    """
    chosen = list(computed)
    best = gaps.error(chosen)
    improved = True
    while improved:
        improved = False
        for index in range(1, len(chosen)):
            for place in range(1, steps):
                if place in chosen:
                    continue
                tried = [*chosen[:index], place, *chosen[index + 1 :]]
                error = gaps.error(tried)
                if error < best:
                    best, chosen, improved = error, tried, True
    return best, sorted(chosen)
