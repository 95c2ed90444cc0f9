"""One request's way through a loop, and what it shows of itself."""

from __future__ import annotations

import threading
import weakref
from typing import Any

from cachedit_yaml.runtime.generation import Generation
from cachedit_yaml.runtime.identity import Trace, Traces
from cachedit_yaml.runtime.timesteps import TimestepClock


class Run:
    """One request.

    Attributes:
        generation: its current generation.
        announced: it got new timesteps: its next forward begins a generation.
        stepped_to: the scheduler's index after its last step; None once a forward came after it.
        timesteps: what its forwards carried.
        latents: those that its last step returned.
        beside: schedulers that its loop may step in the place of the one it was taken to step.
        stepped: its scheduler has ended a step.
        claimed: another scheduler than it was taken to step did.
        began: its generation began with timesteps that were announced.
        name: the request that the caller named.
    """

    def __init__(self, timesteps: TimestepClock, name: str | None = None) -> None:
        self.generation: Generation | None = None
        self.announced = False
        self.stepped_to: int | None = None
        self.timesteps = timesteps
        self.latents: Trace | None = None
        self.beside: tuple[weakref.ref[Any], ...] = ()
        self.stepped = False
        self.claimed = False
        self.began = False
        self.name = name
        self._thread = weakref.ref(threading.current_thread())

    @property
    def over(self) -> bool:
        """Whether its generation has ended, so that nothing of it goes on."""
        return self.generation is not None and self.generation.ended is not None

    @property
    def here(self) -> bool:
        """Whether its last forward was this thread's."""
        return self._thread() is threading.current_thread()

    @property
    def waits(self) -> bool:
        """Whether somebody holds the latents of its last step, to go on with them."""
        return self.latents is not None and self.latents.lives

    @property
    def lost(self) -> bool:
        """Whether its thread has ended and nobody can go on with it."""
        thread = self._thread()
        return not (thread is not None and thread.is_alive()) and not self.waits

    def touch(self) -> None:
        """This thread goes on with it."""
        if not self.here:
            self._thread = weakref.ref(threading.current_thread())

    def evidence(self, traces: Traces) -> tuple[bool, int]:
        """What speaks for a forward being its own: its latents, and how many other tensors."""
        own = self.latents
        latents = own is not None and own in traces.values()
        if self.generation is None:
            return latents, 0
        return latents, max(
            (state.likeness(traces) for state in self.generation.transformers.values()), default=0
        )

    def release(self) -> None:
        """Drop every cached tensor."""
        if self.generation is not None:
            self.generation.release()
