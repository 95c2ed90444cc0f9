"""Models of full size with random weights, on a GPU: whole generations.

A static mask (cache-dit's own ``medium``) says which steps are served from the cache, so that
cache-dit and cachedit-yaml serve the same ones; that is checked. Random weights take the same time
as trained ones. Every contender shares the weights, so one copy has to fit into memory.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import cache_dit
import torch

from benchmarks import subjects
from benchmarks.architectures import ARCHITECTURES, Architecture
from benchmarks.contest import Contest
from benchmarks.measure import ClockName, Spread, Timings, milliseconds, numbers_of, percent
from benchmarks.table import Row, is_met, skipped

#: What is measured unless told otherwise; `wan-14b` takes minutes for one generation.
DEFAULT = ("flux", "qwen-image", "wan-1.3b")


def full_size(
    names: Sequence[str] = DEFAULT,
    *,
    series: int = 2,
    device: str = "cuda",
    clock: ClockName = "wall",
    tiny: bool = False,
) -> list[Row]:
    """Measure some models.

    Args:
        names: which, of :data:`benchmarks.architectures.ARCHITECTURES`.
        series: generations of each.
        device: where; without ``tiny`` only ``cuda``.
        clock: which time counts.
        tiny: shrink everything, to try this code on any machine.
    """
    if not tiny and (not device.startswith("cuda") or not torch.cuda.is_available()):
        why = "needs --device cuda and a CUDA device; --tiny tries the code without"
        return [skipped("models of full size", why)]
    rows: list[Row] = []
    for name in names:
        model = ARCHITECTURES[name]
        try:
            with _only_this(device):
                rows += _generations(model, series, device, clock, tiny=tiny)
        except torch.OutOfMemoryError:
            rows.append(skipped(model.name, "out of memory"))
    return rows


@contextmanager
def _only_this(device: str) -> Iterator[None]:
    """Everything made inside is made on the device in bfloat16, and freed after."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)
        gc.collect()
        if device.startswith("cuda"):
            torch.cuda.empty_cache()


def _generations(
    model: Architecture, series: int, device: str, clock: ClockName, *, tiny: bool
) -> list[Row]:
    steps = 8 if tiny else model.steps
    mask = list(cache_dit.steps_mask(mask_policy="medium", total_steps=steps))
    contest = Contest(
        model.build(tiny=tiny),
        model.arguments(steps, tiny=tiny),
        subjects.settings(0.08, mask),
        lists=model.lists,
    )
    name = f"{model.name}{' (tiny)' if tiny else ''}, {steps} steps"
    # Kernels that add up in another order from run to run would fail a check to the bit.
    exact = device == "cpu"
    timings = contest.run(series, clock=clock, device=device, skip=0, exact=exact, label=name)
    served = set(contest.served)
    rows = [
        _whole(f"{name}, {len(served)} cached: a generation", timings, steps),
        _some(f"{name}: a computed step", timings, steps, set(range(steps)) - served),
        _some(f"{name}: a cached step", timings, steps, served),
    ]
    # A tiny model shows that the code works, and nothing else.
    return [replace(row, target="", met="") for row in rows] if tiny else rows


def _whole(name: str, timings: Timings, steps: int) -> Row:
    """Sums over the steps of each generation."""
    plain, theirs, ours = (
        _sums(timings.of(contender), steps) for contender in ("uncached", "cache-dit", "ours")
    )
    gain = [Spread.of(_ratios(plain, taken)) for taken in (theirs, ours)]
    duel = Spread.of(_ratios(theirs, ours))
    return Row(
        name=name,
        uncached=f"{Spread.of(plain).median:.3g} s",
        cache_dit=f"x{gain[0].median:.2f}",
        ours=f"x{gain[1].median:.2f}",
        ratio=f"{duel.median:.4f} of cache-dit",
        quartiles=f"{duel.low:.4f} to {duel.high:.4f}",
        target="at least 1",
        met=is_met(duel, at_least=1),
        numbers={"seconds": numbers_of(timings), "steps": timings.seconds},
    )


def _some(name: str, timings: Timings, steps: int, chosen: set[int]) -> Row:
    """Some steps alone: overhead where they are computed, what is left where they are not."""
    plain, theirs, ours = (
        [value for place, value in enumerate(timings.of(contender)) if place % steps in chosen]
        for contender in ("uncached", "cache-dit", "ours")
    )
    duel = Spread.of(_ratios(ours, theirs))
    return Row(
        name=name,
        uncached=milliseconds(Spread.of(plain)),
        cache_dit=percent(Spread.of(_ratios(theirs, plain)).median),
        ours=percent(Spread.of(_ratios(ours, plain)).median),
        ratio=f"{duel.median:.4f} of cache-dit",
        quartiles=f"{duel.low:.4f} to {duel.high:.4f}",
        target="at most 1",
        met=is_met(duel, at_most=1),
    )


def _sums(values: Sequence[float], steps: int) -> list[float]:
    return [sum(values[place : place + steps]) for place in range(0, len(values), steps)]


def _ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    return [above / below for above, below in zip(over, under, strict=True)]
