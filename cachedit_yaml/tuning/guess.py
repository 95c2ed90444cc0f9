"""What settings may come to that were not run: what the trace says, set right by what was run.

A trace of uncached steps does not show how errors of cached steps bend the forecasts of later ones.
How far it is off depends on the kind of settings, and is alike for those that are alike. So each
run corrects what is said of others like it, and what is unlike all that was run may be better by
some dB, or nobody would ever find out (upper confidence bounds: Auer, Cesa-Bianchi and Fischer,
Machine Learning 47, 2002).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from cachedit_yaml.generating.samples import Array
from cachedit_yaml.tuning.candidates import Candidate, family_of, mask_in

#: How much better, in dB, settings may be that are like none of those that were run. With 20 steps
#: on the demo's DiT, TaylorSeer comes out up to 8 dB below what a trace says, and none as it says.
_HOPE: Final = 4.0
#: So much unlike are settings with twice the warm-up or cached steps in a row, and for each share
#: of the blocks; 1 is another kind. Masks of a kind are as much unlike as all their computed steps
#: together would have to be moved by, over the number of steps.
_DOUBLE: Final = 0.25
_BLOCKS: Final = 4.0
#: Below this, settings are as good as the same.
_SAME: Final = 0.05


#: What of a mask's computed steps lies before a place, at so many shares.
_SHARES: Final = np.linspace(0, 1, 33)


class Guess:
    """Corrects what a trace says by what was run.

    Args:
        runs: of each, the settings, the share of the blocks, the error that the trace expected and
            the decibels that came out.
    """

    def __init__(self, runs: Sequence[tuple[Mapping[str, Any], float, float, float]]) -> None:
        self._kinds = [family_of(run[0]) for run in runs]
        self._traits = np.array([(*_traits(run[0]), run[1]) for run in runs])
        self._paces = np.array([_pace_in(run[0]) for run in runs])
        self._offsets = np.array([run[3] + 20 * math.log10(run[2]) for run in runs])

    def __bool__(self) -> bool:
        """Whether there is anything to go by."""
        return bool(self._kinds)

    def of(self, item: Candidate) -> float:
        """The decibels that a candidate may reach; without runs, good only to be compared."""
        said = -20 * math.log10(item.error)
        if not self._kinds:
            return said
        kind = item.family
        other = np.array([kind != one for one in self._kinds], dtype=float)
        apart = np.abs(self._traits - (*_traits(item.settings), item.blocks))
        moved = np.abs(self._paces - _pace_in(item.settings)).mean(axis=1)
        unlike = other + apart @ (_DOUBLE, _DOUBLE, _BLOCKS) + (1 - other) * moved
        weights = 1 / (_SAME + unlike) ** 2
        worth = float(weights @ self._offsets / weights.sum())
        return said + worth + _HOPE * min(float(unlike.min()), 1.0)


def _traits(settings: Mapping[str, Any]) -> tuple[float, float]:
    """The binary logarithms of the warm-up and of the cached steps in a row."""
    warmup = settings.get("max_warmup_steps") or 1
    in_a_row = settings.get("max_continuous_cached_steps") or 1
    return math.log2(max(warmup, 1)), math.log2(max(in_a_row, 1))


def _pace_in(settings: Mapping[str, Any]) -> Array:
    """How far a mask's computed steps lie along the generation; zeros of other settings."""
    if settings.get("scm") is None:
        return np.zeros(len(_SHARES))
    return _pace(tuple(mask_in(settings)))


@functools.lru_cache(10_000)
def _pace(mask: tuple[int, ...]) -> Array:
    computed = np.flatnonzero(mask)
    places = np.interp(_SHARES, np.linspace(0, 1, len(computed)), computed)
    found: Array = places * (len(computed) / len(mask))
    return found
