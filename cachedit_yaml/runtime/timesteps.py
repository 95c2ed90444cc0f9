"""Steps and generations read off the timesteps that a transformer is called with."""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

import torch


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


class TimestepClock:
    """A new timestep begins a step; one back on the other side begins a generation.

    Where calls carry no timestep, the names of the guidance branches or their declared number
    tell where a step ends, and only :meth:`Clock.refresh` tells where a generation does.

    Args:
        forwards: forwards that make a step, for calls that carry no timestep; 0 if unknown.
    """

    def __init__(self, forwards: int) -> None:
        self._forwards = forwards
        self._calls = 0
        self._names: set[str] = set()
        self._last: Moment | None = None
        self._direction = 0

    def see(self, timestep: Moment | None, name: str | None) -> Event:
        """Look at one forward.

        Args:
            timestep: the timestep that it carries.
            name: the guidance branch that the pipeline announced.
        """
        self._calls += 1
        if self._calls == 1:
            event = Event.GENERATION
        elif timestep is None or self._last is None:
            event = self._by_count(name)
        elif timestep == self._last:
            event = Event.NOTHING
        elif timestep.largest == self._last.largest:
            event = self._by_tokens(timestep, self._last, name)
        else:
            direction = 1 if timestep.largest > self._last.largest else -1
            event = Event.STEP if self._direction in (0, direction) else Event.GENERATION
            self._direction = direction if event is Event.STEP else 0
        self._last = timestep
        if event is not Event.NOTHING:
            self._names.clear()
        if name is not None:
            self._names.add(name)
        return event

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
    if isinstance(timestep, torch.Tensor):
        count = timestep.numel()
        if count < 2:
            value = float(timestep) if count else None
        else:
            flat = timestep.detach().float()
            value, mean = torch.stack((flat.max(), flat.mean())).tolist()
            return Moment(value, mean, count)
    else:
        value = float(timestep) if isinstance(timestep, (int, float)) else None
    return None if value is None else Moment(value, value, 1)
