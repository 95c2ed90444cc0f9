"""What an error of a step's prediction becomes in the result: guidance, and the scheduler.

Guidance adds up the forwards of a step with factors, which are read off what the scheduler is
given. The scheduler's update is linear in the prediction for most: its factors come from a run of a
copy of it on nothing but a prediction of 1 in one step each.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any, Final

import torch

#: Elements that the factors of the guidance are fitted on.
_ELEMENTS: Final = 8192
#: What a fit may leave over, relative to what is fitted.
_GOOD, _USABLE = 0.01, 0.5
#: A prediction so small that no scheduler clips it.
_SMALL: Final = 1e-3


def guidance_factors(
    outputs: Sequence[torch.Tensor], given: torch.Tensor
) -> tuple[int, list[list[float]]] | None:
    """How the outputs of a step's forwards add up to the prediction that the scheduler is given.

    Args:
        outputs: of each forward, ``[k*n x ...]``: branches that run as one batch stand in a row.
        given: the prediction, ``[n x ...]`` or twice the same, ``[2n x ...]``.

    Returns:
        The number of samples n, and for each output its k factors; None where the outputs do not
        add up to it, as far as a sum can tell.
    """
    best: tuple[float, int, list[list[float]]] | None = None
    for samples in (len(given), len(given) // 2):
        if not samples or any(len(item) % samples for item in outputs):
            continue
        parts = [torch.split(item, samples) for item in outputs]
        if any(part.shape[1:] != given.shape[1:] for part in itertools.chain(*parts)):
            continue
        right = given[:samples].flatten().double().cpu()
        places = torch.randperm(len(right), generator=torch.Generator().manual_seed(0))[:_ELEMENTS]
        left = torch.stack(
            [part.flatten().double().cpu()[places] for part in itertools.chain(*parts)], dim=1
        )
        right = right[places]
        found = torch.linalg.lstsq(left, right[:, None]).solution[:, 0]
        over = float((left @ found - right).norm() / right.norm().clamp_min(1e-30))
        factors = iter(found.tolist())
        fit = over, samples, [[next(factors) for _ in split] for split in parts]
        if best is None or over < best[0]:
            best = fit
        if over < _GOOD:
            break
    return best[1:] if best is not None and best[0] < _USABLE else None


def step_weights(
    scheduler: Any, steps: Sequence[Any], sample: torch.Tensor, given: torch.Tensor, more: Any
) -> list[float] | None:
    """What a unit of prediction in each step adds to the final latents.

    Args:
        scheduler: a copy of it, as it stood before the first step.
        steps: what it was given as timestep in each step.
        sample: the latents of a step, for their shape.
        given: the prediction, for its shape.
        more: further arguments of its `step`.

    Returns:
        One number a step; None where the scheduler cannot be asked, or is not linear.
    """
    count = len(steps)
    plain = {
        name: value
        for name, value in more.items()
        if value is None or isinstance(value, (bool, int, float, str))
    }

    def shape(like: torch.Tensor) -> list[int]:
        return [count + 2, *like.shape[1:2], *(1 for _ in like.shape[2:])]

    mixed = torch.rand(count, generator=torch.Generator().manual_seed(0)) - 0.5

    def final(on: bool) -> torch.Tensor:
        own = copy.deepcopy(scheduler)
        latents = torch.zeros(shape(sample))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for index, step in enumerate(steps):
                prediction = torch.zeros(shape(given))
                if on:
                    prediction[index] = _SMALL
                    prediction[count + 1] = _SMALL * float(mixed[index])
                where = step.cpu() if isinstance(step, torch.Tensor) else step
                latents = own.step(prediction, where, latents, **plain, return_dict=False)[0]
        return latents.flatten(1).mean(1)

    try:
        change = (final(True) - final(False)).double() / _SMALL
    except Exception:
        # Schedulers have all kinds of signatures, and some need more than latents.
        return None
    weights = change[:count]
    expected = float((weights * mixed).sum())
    if not bool(weights.isfinite().all()) or abs(
        float(change[count + 1]) - expected
    ) > 0.02 * float((weights * mixed).norm()):
        return None
    return [float(value) for value in weights]
