"""Requests that an engine runs step by step: it counts the steps, and others run in between."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cachedit_yaml.runtime.clock import Clock
    from cachedit_yaml.runtime.generation import Generation


class Stepwise:
    """One generation whose steps the caller counts.

    It goes with this object: a request that an engine forgets keeps no buffer.

    Attributes:
        generation: what is cached, and what was done.
    """

    def __init__(self, clock: Clock, generation: Generation) -> None:
        self._clock = clock
        self.generation = generation
        self._gone = weakref.finalize(self, generation.end, "its request is gone")
        self._gone.atexit = False

    @contextmanager
    def step(self) -> Iterator[None]:
        """The forwards of one step: every forward of this thread belongs to it.

        What raises here ends the generation; what is left of it runs uncached.
        """
        with self._clock.driven.by(self.generation):
            try:
                yield
            except BaseException:
                self._clock.fail(self.generation)
                raise
        self.generation.end_step()

    def end(self, why: str = "its request ended") -> None:
        """It is over, however far it came: every cached tensor goes."""
        self.generation.end(why)


class Driven:
    """The generations whose steps callers count, and the one that each thread is in."""

    def __init__(self) -> None:
        self._all: weakref.WeakSet[Generation] = weakref.WeakSet()
        self._here = threading.local()

    def add(self, generation: Generation) -> None:
        """One more has begun."""
        self._all.add(generation)

    @property
    def current(self) -> Generation | None:
        """The one that this thread's forwards belong to; None where nobody says."""
        found: Generation | None = getattr(self._here, "generation", None)
        return found

    @contextmanager
    def by(self, generation: Generation) -> Iterator[None]:
        """This thread's forwards belong to a generation."""
        before = self.current
        self._here.generation = generation
        try:
            yield
        finally:
            self._here.generation = before

    def of(self, name: str | None) -> list[Generation]:
        """Those that go on, of a request; of all for None."""
        return [item for item in self._all if item.ended is None and name in (None, item.what)]
