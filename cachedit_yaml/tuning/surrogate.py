"""How far a setting would lead the traced generations from the uncached result, without running it.

The errors of the steps that it would serve from the cache are added up before their size is taken:
they lie in one direction or against each other, and only the sum says which. That holds within a
run of cached steps. What one run leaves behind is bent by the steps until the next one, so of two
that seem to cancel out much stays, and a search among many masks finds those that seem to: their
runs count by themselves too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from cachedit_yaml.generating.samples import Array
from cachedit_yaml.tuning.candidates import Candidate, bins, calibrator
from cachedit_yaml.tuning.units import Unit

#: cache-dit's TaylorSeer takes no slope from the steps before this one.
_FIRST_SLOPE: Final = 3
#: How far the runs of cached steps of a mask count by themselves; the rest is their sum. For 58
#: masks of 50 steps on the demo's DiT, what is expected and what comes out (in dB, less the mean of
#: those with as many computed steps) correlate by 0.86, 0.62 and 0.22 with 0 (of 6 to 8, 9, and 10
#: to 12 computed steps), by 0.91, 0.76 and 0.78 with a fifth, by -0.08, 0.80 and 0.83 with a half.
APART: Final = 0.2


class Surrogate:
    """Scores settings on what was traced.

    Args:
        calls: the units of each traced call.
    """

    def __init__(self, calls: Sequence[Sequence[Unit]]) -> None:
        self.calls = [list(call) for call in calls]

    @property
    def units(self) -> list[Unit]:
        """Those of all calls."""
        return [unit for call in self.calls for unit in call]

    @property
    def steps(self) -> int | None:
        """How many steps each transformer has, where all have the same number."""
        found = {unit.share for unit in self.units}
        return found.pop() if len(found) == 1 else None

    @property
    def deciding(self) -> list[str]:
        """The lists that decide for themselves, as a profile's ``lists`` names them."""
        return sorted(
            {
                name
                for unit in self.units
                for place, name in enumerate(unit.names)
                if unit.leaders[place] == place
            }
        )

    @staticmethod
    def limits(item: Candidate) -> dict[str, Any]:
        """The arguments of :meth:`dynamic` that gave a candidate."""
        order, fn, bn, _ = item.family
        names = {"warmup": "max_warmup_steps", "threshold": "residual_diff_threshold"}
        names["in_a_row"] = "max_continuous_cached_steps"
        given = {name: item.settings[key] for name, key in names.items()}
        return {**given, "fn": fn, "bn": bn, "order": order}

    def mask(self, mask: Sequence[int], order: int = 1) -> Candidate:
        """Score a static mask with F = 0."""
        flags = np.asarray(mask, dtype=bool)
        decided = [
            [np.repeat(~flags[unit.steps][:, None], len(unit.blocks), 1) for unit in call]
            for call in self.calls
        ]
        settings = {
            "Fn_compute_blocks": 0,
            "max_warmup_steps": 1,
            "scm": {"policy": "static", **bins([int(flag) for flag in mask])},
            "calibrator": calibrator(order),
        }
        ends = np.flatnonzero(np.diff(flags.astype(int), prepend=1) == 1)
        runs = np.searchsorted(ends, np.arange(len(flags)), side="right")
        return self._candidate(settings, decided, (0, 0), order, runs)

    def dynamic(
        self,
        *,
        fn: int,
        warmup: int,
        threshold: float,
        in_a_row: int,
        order: int,
        bn: int = 0,
        most: int = -1,
        lists: Mapping[str, float] | None = None,
    ) -> Candidate:
        """Score settings that decide by the difference of the first F blocks.

        Args:
            fn: F.
            warmup: computed steps at the start.
            threshold: of the relative difference.
            in_a_row: at most so many cached steps in a row.
            order: of TaylorSeer; 0 for none.
            bn: B.
            most: at most so many cached steps in all; -1 for any number.
            lists: other thresholds of block lists, by their names in a profile's ``lists``.
        """
        settings = {
            "Fn_compute_blocks": fn,
            **({"Bn_compute_blocks": bn} if bn else {}),
            "max_warmup_steps": warmup,
            "residual_diff_threshold": threshold,
            "max_continuous_cached_steps": in_a_row,
            **({"max_cached_steps": most} if most >= 0 else {}),
            "scm": None,
            "calibrator": calibrator(order),
        }
        if lists:
            own = {name: {"residual_diff_threshold": value} for name, value in lists.items()}
            settings["lists"] = own
        decided: list[list[Array]] = []
        for call in self.calls:
            decided.append([])
            for unit in call:
                limits = [(lists or {}).get(name, threshold) for name in unit.names]
                decided[-1].append(_hits(unit, fn, warmup, limits, in_a_row, most))
        return self._candidate(settings, decided, (fn, bn), order)

    def _candidate(
        self,
        settings: Mapping[str, Any],
        decided: Sequence[Sequence[Array]],
        variant: tuple[int, int],
        order: int,
        runs: Array | None = None,
    ) -> Candidate:
        ran = total = 0
        squares: list[Array] = []
        for call, hits in zip(self.calls, decided, strict=True):
            by_shape: dict[tuple[int, ...], Array] = {}
            for unit, hit in zip(call, hits, strict=True):
                blocks = np.array(unit.blocks)
                skipped = (hit.sum(axis=0) * (blocks - unit.always(*variant))).sum()
                total += int(blocks.sum()) * len(hit)
                ran += int(blocks.sum()) * len(hit) - int(skipped)
                off = _error(unit, hit @ blocks / blocks.sum(), variant, order, runs)
                if off is None:
                    return Candidate(settings, ran / max(total, 1), math.inf)
                by_shape[off.shape] = by_shape[off.shape] + off if off.shape in by_shape else off
            for item in by_shape.values():
                whole, apart = np.square(item.sum(axis=0)).sum(axis=1), np.square(item).sum((0, 2))
                squares.append((1 - APART) * whole + APART * apart)
        error = float(np.sqrt(np.concatenate(squares).mean()))
        return Candidate(settings, ran / max(total, 1), error)


def _hits(
    unit: Unit, fn: int, warmup: int, limits: Sequence[float], in_a_row: int, most: int
) -> Array:
    """Which of a unit's lists cache-dit would serve from the cache in which step, ``[n x lists]``.

    Lists decide each for itself, by a threshold each, but for those that follow another.
    """
    count, lists = len(unit.steps), len(unit.blocks)
    found = np.zeros((count, lists), dtype=bool)
    table = unit.differences.get(fn)
    if table is None:
        return found
    for index in range(lists):
        if unit.leaders[index] != index:
            found[:, index] = found[:, unit.leaders[index]]
            continue
        column = table[:, :, index]
        last = row = total = 0
        for place in range(1, count):
            distance = place - last
            if (
                unit.steps[place] >= warmup
                and row < in_a_row
                and not 0 <= most <= total
                and distance < column.shape[1]
                and column[place, distance] < limits[index]
            ):
                found[place, index] = True
                row += 1
                total += 1
            else:
                last, row = place, 0
    return found


def _error(
    unit: Unit, shares: Array, variant: tuple[int, int], order: int, runs: Array | None
) -> Array | None:
    """The error of the final latents that a unit's cached steps add up to, ``[r x s x p]``.

    Args:
        unit: what was traced.
        shares: which share of the blocks lies in lists that are served from the cache, ``[n]``:
            where only some lists hit, the error is taken to be that share of the whole.
        variant: F and B.
        order: of TaylorSeer.
        runs: the run of cached steps that each step lies in, ``[steps]``; None for one of all.

    Returns:
        None where the trace does not reach so far, or its first step is no computed one.
    """
    table, hits = unit.errors.get(variant), shares > 0
    if table is None or hits[0]:
        return None if hits.any() else np.zeros((1, 1, 1), np.float32)
    cached, computed = np.flatnonzero(hits), np.flatnonzero(~hits)
    found = np.zeros((1 if runs is None else int(runs[-1]) + 1, *table.shape[2:]), np.float32)
    if not len(cached):
        return found
    steps = np.asarray(unit.steps)
    error = errors_of(table, steps, computed, cached, order)
    if error is None:
        return None
    error = error * shares[cached, None, None].astype(np.float32)
    if runs is None:
        found[0] = error.sum(axis=0)
    else:
        np.add.at(found, runs[steps[cached]], error)
    return found


def errors_of(
    table: Array, steps: Array, computed: Array, cached: Array, order: int
) -> Array | None:
    """The errors of cached forwards in the final latents, ``[c x s x p]``.

    Args:
        table: the errors of a unit, ``[n x d x s x p]``.
        steps: of its forwards, ``[n]``.
        computed: those that are computed, counted among them; before each cached one at least one.
        cached: those that are not.
        order: of TaylorSeer.

    Returns:
        None where the trace does not reach so far.
    """
    rank = np.searchsorted(computed, cached) - 1
    last = computed[rank]
    if int((cached - last).max()) >= table.shape[1]:
        return None
    error = table[cached, cached - last]
    # A slope needs two computed steps, a curve two slopes.
    sloped = (np.arange(len(computed)) > 0) & (steps[computed] - steps[0] >= _FIRST_SLOPE)
    curved = sloped & np.roll(sloped, 1) & (order > 1)
    if order:
        ahead = (steps[cached] - steps[last]).astype(np.float32)
        before, first = (computed[np.maximum(rank - back, 0)] for back in (1, 2))
        near = np.maximum(steps[last] - steps[before], 1)
        far = np.maximum(steps[before] - steps[first], 1)
        bend = np.where(curved[rank], ahead**2 / (2 * near), 0.0)
        slope = np.where(sloped[rank], ahead / near, 0.0) + bend / near
        for place, weight in ((before, -slope - bend / far), (first, bend / far)):
            used = weight != 0
            reach = np.where(used, cached - place, 0)
            if int(reach.max(initial=0)) >= table.shape[1]:
                return None
            error = error + weight.astype(np.float32)[:, None, None] * table[cached, reach]
        error = error + slope.astype(np.float32)[:, None, None] * table[cached, cached - last]
    found: Array = error
    return None if np.isnan(found).any() else found
