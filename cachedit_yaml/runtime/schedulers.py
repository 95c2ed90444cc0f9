"""The schedulers that loops work with, each with the runs that step it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cachedit_yaml.runtime.run import Run
from cachedit_yaml.runtime.runs import Runs


class Schedulers:
    """Runs by scheduler. Schedulers are held weakly: one a request would add up.

    Args:
        make: makes the runs of a scheduler, and hooks it; of None where there is none. It is given
            :meth:`claim` too.
    """

    def __init__(self, make: Callable[[Any, Callable[[Runs], Run | None]], Runs]) -> None:
        self._make = make
        self._none = make(None, self.claim)
        self._known: dict[int, tuple[weakref.ref[Any], Runs]] = {}
        self._lock = threading.RLock()

    def __iter__(self) -> Iterator[Runs]:
        with self._lock:
            known = [runs for _, runs in self._known.values()]
        return iter([*known, self._none])

    @property
    def any(self) -> bool:
        """Whether there is a scheduler."""
        return bool(self._known)

    def knows(self, scheduler: Any) -> bool:
        """Whether a scheduler is hooked."""
        known = self._known.get(id(scheduler))
        return known is not None and known[0]() is scheduler

    def runs_of(self, scheduler: Any) -> Runs:
        """The runs of a scheduler, which is hooked when it is first asked for."""
        if not hasattr(scheduler, "set_timesteps"):
            return self._none
        with self._lock:
            key = id(scheduler)
            if not self.knows(scheduler):
                runs = self._make(scheduler, self.claim)
                self._known[key] = weakref.ref(scheduler, lambda _: self._forget(key)), runs
            return self._known[key][1]

    def claim(self, runs: Runs) -> Run | None:
        """The run of this thread that a scheduler steps, where it was taken for another one's.

        Of two that a loop may work with, only the steps tell.

        Args:
            runs: of the scheduler that was stepped; the run goes over to it.
        """
        scheduler = runs.scheduler
        for other in self:
            run = None if other is runs else other.current()
            if run is None or run.over or run.stepped:
                continue
            if any(item() is scheduler for item in run.beside):
                other.hand_over(run, runs)
                return run
        return None

    def stepping(self, others: Iterable[Any]) -> Any:
        """The one of some schedulers that steps a run of this thread; None where none does."""
        for item in others:
            run = self.runs_of(item).current() if hasattr(item, "set_timesteps") else None
            if run is not None and run.claimed and not run.over:
                return item
        return None

    def _forget(self, key: int) -> None:
        with self._lock:
            known = self._known.get(key)
            if known is not None and known[0]() is None:
                del self._known[key]
                known[1].forget()

    def remove(self) -> None:
        """Restore every scheduler and drop every run."""
        for runs in self:
            runs.remove()
        self._known.clear()
