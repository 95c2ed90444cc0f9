"""Paired, interleaved measurement.

The contenders take turns at every step, in an order that is shuffled anew for each step, so that
they meet the same load of the machine and the same state of the processor's caches. Ratios are
taken within a step and summed up by their median and quartiles; a slow moment then counts for
every contender or, at worst, for one ratio of many.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch

ClockName = Literal["cpu", "wall"]


class Seconds(NamedTuple):
    """What one measured call took."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Spread:
    """Many values, summed up.

    Attributes:
        low: the first quartile.
        median: the median.
        high: the third quartile.
        surely_above: with 95 % confidence the true median is above this ...
        surely_below: ... and below this.
        count: how many values.
    """

    low: float
    median: float
    high: float
    surely_above: float
    surely_below: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Sum values up."""
        ordered = sorted(values)
        count = len(ordered)
        low, median, high = (
            statistics.quantiles(ordered, n=4, method="inclusive") if count > 1 else ordered * 3
        )
        # Ranks between which the median of a population is, by the binomial distribution.
        rank = max(0, math.floor(count / 2 - 0.98 * math.sqrt(count)))
        return cls(low, median, high, ordered[rank], ordered[count - 1 - rank], count)


@dataclass(frozen=True)
class Contender:
    """One of those that take turns.

    Attributes:
        name: what the results call it.
        run: what is measured; gets the number of the step.
        start: what happens before each series of steps, unmeasured.
        after: what happens after each measured call, unmeasured.
    """

    name: str
    run: Callable[[int], Any]
    start: Callable[[], Any] = lambda: None
    after: Callable[[], Any] = lambda: None


class Timings:
    """What the contenders took, step by step."""

    def __init__(self, names: Sequence[str], clock: ClockName) -> None:
        self.clock = clock
        self.seconds: dict[str, list[Seconds]] = {name: [] for name in names}

    def of(self, name: str, clock: ClockName | None = None) -> list[float]:
        """The times of one contender, in seconds."""
        return [getattr(item, clock or self.clock) for item in self.seconds[name]]

    def spread(self, name: str, clock: ClockName | None = None) -> Spread:
        """The times of one contender, summed up."""
        return Spread.of(self.of(name, clock))

    def ratio(self, over: str, under: str, clock: ClockName | None = None) -> Spread:
        """The ratios of two contenders' times, each taken within one step."""
        pairs = zip(self.of(over, clock), self.of(under, clock), strict=True)
        return Spread.of([above / below for above, below in pairs])


def interleave(
    contenders: Sequence[Contender],
    *,
    series: int,
    steps: int = 1,
    skip: int = 0,
    clock: ClockName = "cpu",
    device: str = "cpu",
    label: str = "",
) -> Timings:
    """Let the contenders take turns.

    Args:
        contenders: who takes part.
        series: how many times all steps are run; each contender is started before each.
        steps: turns in a series.
        skip: first turns of a series that are run but not counted.
        clock: which time the results are taken from; both are kept.
        device: where the work is done; ``cuda`` is waited for.
        label: shown on a terminal while it runs.
    """
    shuffle = random.Random(0).shuffle
    timings = Timings([item.name for item in contenders], clock)
    with progress(label) as show, _settled_garbage():
        for number in range(series):
            show(number / series)
            for item in contenders:
                item.start()
            for step in range(steps):
                order = list(contenders)
                shuffle(order)
                for item in order:
                    seconds = time_call(item.run, step, device)
                    item.after()
                    if step >= skip:
                        timings.seconds[item.name].append(seconds)
    return timings


def time_call(call: Callable[[int], Any], step: int, device: str) -> Seconds:
    """Time one call, on the wall and as processor time of this process."""
    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.synchronize()
    cpu, wall = time.process_time(), time.perf_counter()
    call(step)
    if cuda:
        torch.cuda.synchronize()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


@contextmanager
def _settled_garbage() -> Iterator[None]:
    """Put what lives already out of the collector's sight, so that a collection is cheap."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def progress(label: str) -> Iterator[Callable[[float], None]]:
    """Show on a terminal how far a measurement is."""
    shown = sys.stderr.isatty() and bool(label)

    def show(fraction: float) -> None:
        if shown:
            print(f"\r{label}: {fraction:4.0%}\x1b[K", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def added(timings: Timings, over: str, under: str) -> Spread:
    """By how many seconds one contender takes longer than another, within one step."""
    pairs = zip(timings.of(over), timings.of(under), strict=True)
    return Spread.of([above - below for above, below in pairs])


def milliseconds(spread: Spread) -> str:
    """A time for people."""
    value = spread.median * 1e3
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"


def percent(ratio: float) -> str:
    """A ratio as the overhead that it is."""
    return f"{(ratio - 1) * 100:+.2f} %"


def numbers_of(timings: Timings) -> Mapping[str, Any]:
    """Everything about the times that the JSON keeps."""
    return {
        name: {clock: vars(timings.spread(name, clock)) for clock in ("cpu", "wall")}
        for name in timings.seconds
    }
