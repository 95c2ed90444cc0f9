"""Step computation masks (SCM) of exactly the length of a run, for any number of steps.

They equal cache-dit's presets where those are sound. Between 16 and 27 steps it cuts its 28-step
preset off at the end, so that 16 steps of ``ultra`` would compute 3 in all, and for 1, 2, 3, 5 and
7 steps it raises; there the nearest sound preset is rescaled instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby, zip_longest
from typing import Final

from cachedit_yaml.errors import ConfigError
from cachedit_yaml.language.spec import StepMask

#: cache-dit's presets from a number of steps on: runs of computed steps, and of cached ones
#: between them.
_PRESETS: Final[Mapping[int, Mapping[str, tuple[list[int], list[int]]]]] = {
    28: {
        "slow": ([8, 3, 3, 2, 1, 1], [1, 2, 2, 2, 3]),
        "medium": ([6, 2, 2, 2, 2, 1], [1, 3, 3, 3, 3]),
        "fast": ([6, 1, 1, 1, 1, 1], [1, 3, 4, 5, 4]),
        "ultra": ([4, 1, 1, 1, 1], [2, 5, 6, 7]),
    },
    10: {
        "slow": ([4, 2, 2, 2, 1], [1, 1, 1, 1]),
        "medium": ([4, 2, 1, 1, 1], [1, 1, 2, 2]),
        "fast": ([3, 1, 1, 1, 1], [1, 2, 2, 3]),
        "ultra": ([2, 1, 1, 1, 1], [1, 2, 3, 3]),
    },
    9: {
        "slow": ([5, 2, 1], [1]),
        "medium": ([5, 1, 1], [1, 1]),
        "fast": ([4, 1, 1], [1, 2]),
        "ultra": ([3, 1, 1], [2, 2]),
    },
    8: {
        "slow": ([5, 1, 1], [1]),
        "medium": ([4, 1, 1], [1, 1]),
        "fast": ([3, 1, 1], [1, 2]),
        "ultra": ([2, 1, 1], [2, 2]),
    },
    6: dict.fromkeys(("slow", "medium", "fast", "ultra"), ([3, 1], [2])),
    4: dict.fromkeys(("slow", "medium", "fast", "ultra"), ([2, 1], [1])),
}


def is_sound(steps: int) -> bool:
    """Whether cache-dit's own presets can be used for this number of steps."""
    return steps >= 28 or 8 <= steps <= 15 or steps in (4, 6)


def preset_mask(preset: str, steps: int) -> list[int]:
    """The mask of a preset.

    Args:
        preset: ``slow``, ``medium``, ``fast`` or ``ultra``.
        steps: executed steps, at least 1.

    Returns:
        One number a step: 1 computes it, 0 may serve it from the cache. The first and the last
        step are always computed.
    """
    if steps <= 3:
        return [1] * steps
    if not is_sound(steps):
        return rescale(preset_mask(preset, 28 if steps >= 16 else 8), steps)
    presets = next(presets for least, presets in _PRESETS.items() if steps >= least)
    computed, cached = map(list, presets[preset])
    _lengthen(computed, cached, steps)
    _shorten(computed, cached, steps)
    mask = _alternate(computed, cached, steps)
    mask[-1] = 1
    return mask


def _lengthen(computed: list[int], cached: list[int], steps: int) -> None:
    """Let each run grow in turn, by half its share of the steps, until they cover all of them."""
    both = computed, cached
    growth = [[max(int(run * (steps / 28 * 0.5)), 1) for run in runs] for runs in both]
    while sum(computed) + sum(cached) < steps:
        for index in range(len(cached)):
            for runs, by in zip(both, growth, strict=True):
                if sum(computed) + sum(cached) < steps:
                    runs[index] += by[index]
        if sum(computed) + sum(cached) < steps:
            computed[-1] += 1


def _shorten(computed: list[int], cached: list[int], steps: int) -> None:
    """Take steps off the ends of both until no more than so many are left."""
    while sum(computed) + sum(cached) > steps:
        for runs in (cached, computed):
            if runs and sum(computed) + sum(cached) > steps:
                runs[-1] -= 1
                if not runs[-1]:
                    runs.pop()


def _alternate(computed: Sequence[int], cached: Sequence[int], steps: int) -> list[int]:
    """The mask of runs that are taken in turn, as far as the steps go."""
    mask: list[int] = []
    for pair in zip_longest(computed, cached, fillvalue=0):
        for flag, run in zip((1, 0), pair, strict=True):
            mask += [flag] * min(run, steps - len(mask))
    return mask


def rescale(reference: list[int], steps: int) -> list[int]:
    """Spread the computed steps of a mask over fewer steps, in proportion.

    No run of cached steps becomes longer than the longest of the reference.
    """
    # Three at least, as every sound preset has: the first step alone says nothing of its residual.
    wanted = max(3, round(sum(reference) * steps / len(reference)))
    mask = _spread(reference, steps, wanted)
    while longest_gap(mask) > longest_gap(reference):
        wanted += 1
        mask = _spread(reference, steps, wanted)
    return mask


def longest_gap(mask: list[int]) -> int:
    """The longest run of steps that may be served from the cache."""
    return max((len(list(run)) for flag, run in groupby(mask) if not flag), default=0)


def _spread(reference: list[int], steps: int, wanted: int) -> list[int]:
    computed = [index for index, flag in enumerate(reference) if flag]
    mask = [0] * steps
    previous = -1
    for order in range(wanted):
        place = order * (len(computed) - 1) / (wanted - 1)
        low = int(place)
        high = min(low + 1, len(computed) - 1)
        source = computed[low] + (computed[high] - computed[low]) * (place - low)
        target = round(source * (steps - 1) / (len(reference) - 1))
        # Strictly increasing, with room for those that follow.
        target = min(max(target, previous + 1), steps - wanted + order)
        mask[target] = 1
        previous = target
    return mask


#: Why a forward runs uncached while nobody has told the steps that its mask is made for.
UNTOLD = "a step computation mask needs the number of steps, which is not known yet"


def build_mask(scm: StepMask | None, steps: int | None, where: str) -> list[int] | None:
    """The mask for a run of ``steps`` executed steps, or None without a mask.

    Raises:
        ConfigError: the number of steps is unknown, or a mask or bins given by hand do not cover
            the run exactly.
    """
    if scm is None:
        return None
    if steps is None:
        raise ConfigError(
            f"{where}: a step computation mask needs the number of steps, and this run has not "
            "told it; call handle.refresh(num_inference_steps=...) before the generation"
        )
    if scm.preset is not None:
        return preset_mask(scm.preset, steps)
    if scm.mask is not None:
        if len(scm.mask) != steps:
            raise ConfigError(
                f"{where}: scm.mask has {len(scm.mask)} entries and this generation executes "
                f"{steps} steps; give one entry a step, or a preset, which fits any number"
            )
        return list(scm.mask)
    mask = _alternate(scm.compute_bins or (), scm.cache_bins or (), steps)
    if len(mask) < steps:
        raise ConfigError(
            f"{where}: scm bins cover {len(mask)} steps and this generation executes {steps}; "
            "later steps would all be cached: add bins, or use a preset"
        )
    return mask
