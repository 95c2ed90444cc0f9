"""Timesteps that are elements of one schedule, told apart without reading them.

Loops call a transformer with ``t`` of ``for t in timesteps``, a view of the schedule. Where two
neighbours of a schedule were read once and differ, the next one at the same distance is the next
timestep: on a GPU, reading it would make the host wait in every forward.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from cachedit_yaml.runtime.identity import trace_of, version_of


class Element(NamedTuple):
    """A timestep that is one element of a longer tensor.

    Attributes:
        memory: that of the schedule.
        version: how often it had been written to.
        offset: which element.
        tensor: the timestep.
    """

    memory: StorageWeakRef
    version: int
    offset: int
    tensor: torch.Tensor

    @property
    def schedule(self) -> tuple[int, int]:
        """Tells the schedule, as long as this is there."""
        return self.memory.cdata, self.version

    @property
    def overwritten(self) -> bool:
        """Whether it can no longer be read."""
        return version_of(self.tensor) != self.version


def element_of(timestep: Any) -> Element | None:
    """Where a timestep lies in its schedule; None where it is no element of one."""
    if not isinstance(timestep, torch.Tensor) or timestep.is_inference():
        return None
    if timestep.numel() != 1 and (not timestep.numel() or any(timestep.stride())):
        return None
    trace = trace_of(timestep)
    if trace is None or timestep.untyped_storage().nbytes() <= timestep.element_size():
        return None
    tensor = timestep.detach()
    return Element(trace.storage, version_of(timestep), int(timestep.storage_offset()), tensor)


class Distances:
    """How far apart the timesteps of a schedule lie, as far as they were read."""

    def __init__(self) -> None:
        self._memory: StorageWeakRef | None = None
        self._schedule: tuple[int, int] | None = None
        self._distance = 0
        self._direction = 0

    def direction(self, last: Element, now: Element) -> int:
        """1 where a timestep is known to be above the last, -1 where below; 0: to be read."""
        if not self._distance or self._schedule != now.schedule:
            return 0
        distance = now.offset - last.offset
        # The way back leads through the same timesteps.
        return {self._distance: self._direction, -self._distance: -self._direction}.get(distance, 0)

    def learn(self, last: Element, now: Element, direction: int) -> None:
        """Two timesteps of a schedule were read.

        Args:
            last: the one before.
            now: the one after.
            direction: as above; 0 where both are the same, after which this schedule tells nothing.
        """
        if self._schedule == now.schedule and (not self._distance or direction):
            return
        self._memory = now.memory  # so that nothing else gets its address
        self._schedule = now.schedule
        self._distance = now.offset - last.offset if direction else 0
        self._direction = direction
