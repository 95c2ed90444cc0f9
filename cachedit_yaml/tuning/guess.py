"""What settings may come to that were not run: what the trace says, set right by what was run.

A trace of uncached steps does not show how errors of cached steps bend the forecasts of later ones.
How far it is off depends on the kind of settings, and is alike for those that are alike. So each
run corrects what is said of others like it, and what is unlike all that was run may be better by
some dB, or nobody would ever find out (upper confidence bounds: Auer, Cesa-Bianchi and Fischer,
Machine Learning 47, 2002).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cachedit_yaml.tuning.candidates import Candidate, family_of

#: How much better, in dB, settings may be that are like none of those that were run. With 20 steps
#: on the demo's DiT, TaylorSeer comes out up to 8 dB below what a trace says, and none as it says.
_HOPE: Final = 4.0
#: So much unlike are settings with twice the warm-up or cached steps in a row, and for each share
#: of the blocks; 1 is another kind.
_DOUBLE: Final = 0.25
_BLOCKS: Final = 4.0
#: Below this, settings are as good as the same.
_SAME: Final = 0.05


class Guess:
    """Corrects what a trace says by what was run.

    Args:
        runs: of each, the settings, the share of the blocks, the error that the trace expected and
            the decibels that came out.
    """

    def __init__(self, runs: Sequence[tuple[Mapping[str, Any], float, float, float]]) -> None:
        self._runs = [
            (_traits(settings), blocks, decibels + 20 * math.log10(error))
            for settings, blocks, error, decibels in runs
        ]

    def __bool__(self) -> bool:
        """Whether there is anything to go by."""
        return bool(self._runs)

    def of(self, item: Candidate) -> float:
        """The decibels that a candidate may reach; without runs, good only to be compared."""
        said = -20 * math.log10(item.error)
        if not self._runs:
            return said
        own = _traits(item.settings)
        worth = total = 0.0
        nearest = 1.0
        for traits, blocks, offset in self._runs:
            unlike = _unlike(own, traits) + _BLOCKS * abs(item.blocks - blocks)
            nearest = min(nearest, unlike)
            weight = 1 / (_SAME + unlike) ** 2
            worth += weight * offset
            total += weight
        return said + worth / total + _HOPE * nearest


_Traits = tuple[tuple[Any, ...], float, float]


def _traits(settings: Mapping[str, Any]) -> _Traits:
    """The kind of settings, and the binary logarithms of the warm-up and of the steps in a row."""
    warmup = settings.get("max_warmup_steps") or 1
    in_a_row = settings.get("max_continuous_cached_steps") or 1
    return family_of(settings), math.log2(max(warmup, 1)), math.log2(max(in_a_row, 1))


def _unlike(one: _Traits, other: _Traits) -> float:
    kind = 0.0 if one[0] == other[0] else 1.0
    return kind + _DOUBLE * (abs(one[1] - other[1]) + abs(one[2] - other[2]))
