"""How far a setting would lead the traced generations from the uncached result, without running it.

The errors of the steps that it would serve from the cache are added up before their size is taken:
they lie in one direction or against each other, and only the sum says which.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, Final

import numpy as np

from cachedit_yaml.generating.samples import Array
from cachedit_yaml.tuning.record import Unit

#: cache-dit's TaylorSeer takes no slope from the steps before this one.
_FIRST_SLOPE: Final = 3
#: Steps that bins go on for behind those that they were made for.
_BEYOND: Final = 1000


@dataclass(frozen=True)
class Candidate:
    """Settings, and what the trace makes of them.

    Attributes:
        settings: as an adapter writes them.
        blocks: share of the blocks that run.
        error: expected size of the error of the final latents, the root mean square over the
            samples; only good to be compared.
    """

    settings: Mapping[str, Any] = field(hash=False)
    blocks: float
    error: float

    @property
    def key(self) -> str:
        """What it is, in one line."""
        return in_one_line(self.settings.items())


def in_one_line(settings: Iterable[tuple[str, Any]]) -> str:
    """Settings for people, as an adapter writes them or as it is read."""
    return ", ".join(f"{name}: {_shown(value)}" for name, value in settings if value is not None)


def bins(mask: Sequence[int]) -> dict[str, list[int]]:
    """A mask as runs of computed steps and of cached ones between them.

    Shorter generations cut it off; of longer ones all further steps are computed.
    """
    runs = [(flag, len(list(run))) for flag, run in itertools.groupby([*mask, *[1] * _BEYOND])]
    return {
        "compute_bins": [length for flag, length in runs if flag],
        "cache_bins": [length for flag, length in runs if not flag],
    }


def _shown(value: Any) -> str:
    if is_dataclass(value) and not isinstance(value, type):
        value = {name: own for name, own in asdict(value).items() if own is not None}
    if isinstance(value, Mapping) and "type" in value:
        return f"{value['type']} {value['taylorseer_order']}"
    if isinstance(value, Mapping) and "compute_bins" in value:
        pairs = zip(value["compute_bins"], value["cache_bins"], strict=False)
        return " ".join(f"{run}+{gap}" for run, gap in pairs)
    return str(value)


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
        return self._candidate(settings, decided, (0, 0), order)

    def dynamic(
        self, *, fn: int, warmup: int, threshold: float, in_a_row: int, order: int
    ) -> Candidate:
        """Score settings that decide by the difference of the first F blocks.

        Args:
            fn: F.
            warmup: computed steps at the start.
            threshold: of the relative difference.
            in_a_row: at most so many cached steps in a row.
            order: of TaylorSeer; 0 for none.
        """
        settings = {
            "Fn_compute_blocks": fn,
            "max_warmup_steps": warmup,
            "residual_diff_threshold": threshold,
            "max_continuous_cached_steps": in_a_row,
            "scm": None,
            "calibrator": calibrator(order),
        }
        decided = [
            [_hits(unit, fn, warmup, threshold, in_a_row) for unit in call] for call in self.calls
        ]
        return self._candidate(settings, decided, (fn, 0), order)

    def _candidate(
        self,
        settings: Mapping[str, Any],
        decided: Sequence[Sequence[Array]],
        variant: tuple[int, int],
        order: int,
    ) -> Candidate:
        ran = total = 0
        squares: list[Array] = []
        for call, hits in zip(self.calls, decided, strict=True):
            by_shape: dict[tuple[int, ...], Array] = {}
            for unit, hit in zip(call, hits, strict=True):
                blocks = np.array(unit.blocks)
                skipped = (hit.sum(axis=0) * (blocks - sum(variant))).sum()
                total += int(blocks.sum()) * len(hit)
                ran += int(blocks.sum()) * len(hit) - int(skipped)
                off = _error(unit, hit @ blocks / blocks.sum(), variant, order)
                if off is None:
                    return Candidate(settings, ran / max(total, 1), math.inf)
                by_shape[off.shape] = by_shape[off.shape] + off if off.shape in by_shape else off
            squares += [np.square(item).sum(axis=1) for item in by_shape.values()]
        error = float(np.sqrt(np.concatenate(squares).mean()))
        return Candidate(settings, ran / max(total, 1), error)


def calibrator(order: int) -> Mapping[str, Any] | None:
    """TaylorSeer of an order, as an adapter writes it."""
    return {"type": "taylorseer", "taylorseer_order": order} if order else None


def _hits(unit: Unit, fn: int, warmup: int, threshold: float, in_a_row: int) -> Array:
    """Which of a unit's lists cache-dit would serve from the cache in which step, ``[n x lists]``.

    Lists decide each for itself.
    """
    count, lists = len(unit.steps), len(unit.blocks)
    found = np.zeros((count, lists), dtype=bool)
    table = unit.differences.get(fn)
    if table is None:
        return found
    for index in range(lists):
        column = table[:, :, index]
        last = row = 0
        for place in range(1, count):
            distance = place - last
            if (
                unit.steps[place] >= warmup
                and row < in_a_row
                and distance < column.shape[1]
                and column[place, distance] < threshold
            ):
                found[place, index] = True
                row += 1
            else:
                last, row = place, 0
    return found


def _error(unit: Unit, shares: Array, variant: tuple[int, int], order: int) -> Array | None:
    """The error of the final latents that a unit's cached steps add up to, ``[s x p]``.

    Args:
        unit: what was traced.
        shares: which share of the blocks lies in lists that are served from the cache, ``[n]``:
            where only some lists hit, the error is taken to be that share of the whole.
        variant: F and B.
        order: of TaylorSeer.

    Returns:
        None where the trace does not reach so far, or its first step is no computed one.
    """
    table, hits = unit.errors.get(variant), shares > 0
    if table is None or hits[0]:
        return None if hits.any() else np.zeros((1, 1), np.float32)
    cached = np.flatnonzero(hits)
    computed = np.flatnonzero(~hits)
    rank = np.searchsorted(computed, cached) - 1
    last = computed[rank]
    if not len(cached):
        return np.zeros(table.shape[2:], np.float32)
    if int((cached - last).max()) >= table.shape[1]:
        return None
    error = table[cached, cached - last]
    if order:
        before = computed[np.maximum(rank - 1, 0)]
        steps = np.asarray(unit.steps)
        sloped = (rank > 0) & (steps[last] - steps[0] >= _FIRST_SLOPE)
        if int((cached - before)[sloped].max(initial=0)) >= table.shape[1]:
            return None
        ahead = (steps[cached] - steps[last]) / np.maximum(steps[last] - steps[before], 1)
        ahead = np.where(sloped, ahead, 0.0).astype(np.float32)[:, None, None]
        reach = np.where(sloped, cached - before, 0)
        error = (1 + ahead) * error - ahead * table[cached, reach]
    found: Array = (error * shares[cached, None, None].astype(np.float32)).sum(axis=0)
    return None if np.isnan(found).any() else found
