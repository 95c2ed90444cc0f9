"""Step computation masks (SCM) of exactly the length of a run, for any number of steps.

cache-dit's presets are taken where they are sound. Between 16 and 27 steps it cuts its 28-step
preset off at the end, so that 16 steps of ``ultra`` would compute 3 in all, and for 1, 2, 3, 5 and
7 steps it raises; there the nearest sound preset is rescaled instead.
"""

from __future__ import annotations

from itertools import groupby

import cache_dit

from cachedit_yaml.errors import ConfigError
from cachedit_yaml.language.spec import StepMask


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
    if is_sound(steps):
        return list(cache_dit.steps_mask(mask_policy=preset, total_steps=steps))
    reference = list(cache_dit.steps_mask(mask_policy=preset, total_steps=28 if steps >= 16 else 8))
    return rescale(reference, steps)


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
    computed, cached = scm.compute_bins or (), scm.cache_bins or ()
    mask: list[int] = []
    for index in range(max(len(computed), len(cached))):
        mask += [1] * (computed[index] if index < len(computed) else 0)
        mask += [0] * (cached[index] if index < len(cached) else 0)
    if len(mask) < steps:
        raise ConfigError(
            f"{where}: scm bins cover {len(mask)} steps and this generation executes {steps}; "
            "later steps would all be cached: add bins, or use a preset"
        )
    return mask[:steps]
