"""Steps and generations read off the timesteps that a transformer is called with."""

from __future__ import annotations

from enum import Enum
from typing import Any

import torch


class Event(Enum):
    """What a forward begins."""

    GENERATION = "generation"
    STEP = "step"
    NOTHING = "nothing"


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
        self._last: float | None = None
        self._direction = 0

    def see(self, timestep: float | None, name: str | None) -> Event:
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
        else:
            direction = 1 if timestep > self._last else -1
            event = Event.STEP if self._direction in (0, direction) else Event.GENERATION
            self._direction = direction if event is Event.STEP else 0
        self._last = timestep
        if event is not Event.NOTHING:
            self._names.clear()
        if name is not None:
            self._names.add(name)
        return event

    def counts(self, name: str | None) -> bool:
        """Whether steps can be counted without timesteps."""
        return name is not None or self._forwards > 0

    def _by_count(self, name: str | None) -> Event:
        if name is not None:
            return Event.STEP if name in self._names else Event.NOTHING
        begins = self._forwards > 0 and (self._calls - 1) % self._forwards == 0
        return Event.STEP if begins else Event.NOTHING


def scalar(timestep: Any) -> float | None:
    """The timestep of a forward; where every token has its own, the largest."""
    if isinstance(timestep, torch.Tensor):
        return float(timestep.max()) if timestep.numel() else None
    if isinstance(timestep, (int, float)):
        return float(timestep)
    return None
