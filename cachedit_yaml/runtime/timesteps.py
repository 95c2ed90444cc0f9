"""Steps and generations read off the timesteps that a transformer is called with."""

from __future__ import annotations

import functools
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

import torch

from cachedit_yaml.runtime.elements import Distances, Element, element_of
from cachedit_yaml.runtime.identity import Traces
from cachedit_yaml.runtime.repeats import Repeats


class Event(Enum):
    """What a forward begins."""

    GENERATION = "generation"
    STEP = "step"
    NOTHING = "nothing"


class Moment(NamedTuple):
    """The timestep of a forward, where every token may have its own.

    Attributes:
        largest: the largest of them.
        mean: their mean.
        tokens: how many there are.
    """

    largest: float
    mean: float
    tokens: int


class Reading:
    """The timestep of a forward, which is read where nothing else tells.

    Args:
        timestep: what the forward carries; asked for when it is wanted.
    """

    def __init__(self, timestep: Callable[[], Any]) -> None:
        self._timestep = timestep

    @functools.cached_property
    def moment(self) -> Moment | None:
        """Its value, if it can be read."""
        return moment(self._timestep())

    @property
    def given(self) -> bool:
        """Whether there is one that can be read, as far as that shows without reading it."""
        return self.element is not None or self.moment is not None

    @functools.cached_property
    def element(self) -> Element | None:
        """Where it lies in its schedule, if it does."""
        return element_of(self._timestep())


class TimestepClock:
    """A new timestep begins a step; one back on the other side begins a generation.

    So does the same timestep once more, where what goes in belongs to no forward of its step.

    Where calls carry no timestep, the names of the guidance branches or their declared number
    tell where a step ends, and only :meth:`Handle.refresh` tells where a generation does.

    Args:
        forwards: forwards that make a step, for calls that carry no timestep; 0 if unknown.
        distances: what is known of the schedules.

    Attributes:
        mixed: the step before this one may hold the end of one loop and the beginning of another.
    """

    def __init__(self, forwards: int, distances: Distances) -> None:
        self.mixed = False
        self._forwards = forwards
        self._distances = distances
        self._calls = 0
        self._names: set[str] = set()
        self._element: Element | None = None
        self._read: Moment | None = None
        self._direction = 0
        self._repeats = Repeats()

    def see(
        self, reading: Reading, name: str | None, traces: Traces, *, last: bool = True
    ) -> Event:
        """Look at one forward.

        Args:
            reading: the timestep that it carries.
            name: the guidance branch that the pipeline announced.
            traces: the tensors that go into it.
            last: whether the current step may be the last of its generation.
        """
        self._calls += 1
        event = Event.GENERATION if self._calls == 1 else self._compare(reading, name)
        if last and event is Event.NOTHING and reading.given and self._repeats.begins(name, traces):
            event, self._direction = Event.GENERATION, 0
        if event is Event.GENERATION:
            self._repeats.begin_loop()
        elif event is Event.STEP:
            self.mixed = self._repeats.mixed
            self._repeats.begin_step()
        self._repeats.see(name, traces)
        self._element = reading.element
        # What is no element of a schedule may be gone or something else by the next forward.
        self._read = reading.__dict__.get("moment") if reading.element else reading.moment
        if event is not Event.NOTHING:
            self._names.clear()
        if name is not None:
            self._names.add(name)
        return event

    def _compare(self, reading: Reading, name: str | None) -> Event:
        before, now = self._element, reading.element
        together = before is not None and now is not None and before.schedule == now.schedule
        if before is not None and now is not None and together:
            if before.offset == now.offset:
                return Event.NOTHING
            direction = self._distances.direction(before, now)
            if direction and self._direction in (0, direction):
                self._direction = direction
                return Event.STEP
        if before is not None and self._read is None:
            if before.overwritten:
                return Event.GENERATION
            self._read = moment(before.tensor)
        last, timestep = self._read, reading.moment
        if timestep is None or last is None:
            return self._by_count(name)
        direction = (timestep.largest > last.largest) - (timestep.largest < last.largest)
        if before is not None and now is not None and together:
            self._distances.learn(before, now, direction)
        if timestep == last:
            return Event.NOTHING
        if not direction:
            return self._by_tokens(timestep, last, name)
        event = Event.STEP if self._direction in (0, direction) else Event.GENERATION
        self._direction = direction if event is Event.STEP else 0
        return event

    def rest(self) -> None:
        """A scheduler tells the steps: no timestep is held for comparison."""
        self._element = self._read = None

    def knows(self, name: str | None) -> bool:
        """Whether a guidance branch has already run in the current step."""
        return name is None or name in self._names

    def _by_tokens(self, timestep: Moment, last: Moment, name: str | None) -> Event:
        """Some tokens have moved on, the noisiest have not: frames that wait for earlier ones.

        Guidance branches of different lengths differ as well.
        """
        if name is not None:
            return Event.STEP if name in self._names else Event.NOTHING
        return Event.STEP if timestep.tokens == last.tokens else Event.NOTHING

    def counts(self, name: str | None) -> bool:
        """Whether steps can be counted without timesteps."""
        return name is not None or self._forwards > 0

    def _by_count(self, name: str | None) -> Event:
        if name is not None:
            return Event.STEP if name in self._names else Event.NOTHING
        begins = self._forwards > 0 and (self._calls - 1) % self._forwards == 0
        return Event.STEP if begins else Event.NOTHING


def moment(timestep: Any) -> Moment | None:
    """The timestep that a forward carries, if it can be read."""
    if isinstance(timestep, (int, float)):
        return Moment(timestep, timestep, 1)
    if not isinstance(timestep, torch.Tensor) or not timestep.numel():
        return None
    count = timestep.numel()
    if count == 1 or not any(timestep.stride()):  # one number, expanded or not
        value = float(timestep[(0,) * timestep.ndim])
        return Moment(value, value, count)
    flat = timestep.detach().float()
    largest, mean = torch.stack((flat.max(), flat.mean())).tolist()
    return Moment(largest, mean, count)
