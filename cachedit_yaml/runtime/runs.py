"""Which request a forward belongs to: runs, and what tells them apart.

A run is one request's way through a loop. What it shows of itself, from strong to weak: the request
that the caller named, the scheduler that it steps, the timesteps that its thread has announced, the
latents and the conditioning that stay the same tensors from forward to forward, its thread.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import torch

from cachedit_yaml.runtime.elements import Distances
from cachedit_yaml.runtime.generation import MIXED, Generation
from cachedit_yaml.runtime.identity import Traces, trace_of
from cachedit_yaml.runtime.patching import After, Patch
from cachedit_yaml.runtime.requests import current_request
from cachedit_yaml.runtime.run import Run
from cachedit_yaml.runtime.timesteps import TimestepClock

#: Unfinished runs of one scheduler; the oldest are taken for abandoned ones.
MOST_RUNS = 8


class Runs:
    """The runs of one scheduler, or of whatever has none.

    Args:
        scheduler: the scheduler; it is hooked, and held weakly.
        forwards: forwards that make a step, where no timestep tells; 0 if unknown.
        end_step: called when a step of a run has ended, with the timestep that it was given.
        claim: tells the run of a step that this scheduler has no run for.

    Attributes:
        steps: the scheduler has ended a step.
        unseen: it got timesteps and has ended a step, and no forward came in between.
        seen: the scheduler's timesteps when the last generation began.
    """

    def __init__(
        self,
        scheduler: Any,
        forwards: int,
        end_step: Callable[[Runs, Run, Any], None],
        claim: Callable[[Runs], Run | None],
    ) -> None:
        self._scheduler = None if scheduler is None else weakref.ref(scheduler)
        self._forwards = forwards
        self._distances = Distances()
        self._end_step = end_step
        self._claim = claim
        # Those that ran last are last.
        self._runs: list[Run] = []
        # Threads that got new timesteps and have not begun to use them.
        self._announced: dict[int, None] = {}
        # Threads of which no forward of anybody has come since.
        self._waiting: set[int] = set()
        self._lock = threading.RLock()
        self._patches: list[weakref.ref[Patch]] = []
        self.steps = self.unseen = False
        self.seen: Any = getattr(scheduler, "timesteps", None)
        if scheduler is not None:
            try:
                self._hook(scheduler)
            except BaseException:
                self.remove()
                raise

    def _hook(self, scheduler: Any) -> None:
        for name, told in (("set_timesteps", lambda *_: self.announce()), ("step", self._step)):
            if hasattr(scheduler, name):
                patch = After(scheduler, name, told)
                patch.install()
                self._patches.append(weakref.ref(patch))

    @property
    def scheduler(self) -> Any:
        """The scheduler, or None."""
        return None if self._scheduler is None else self._scheduler()

    @property
    def _stateful(self) -> bool:
        """Whether the scheduler counts its steps, so that it serves one request at a time."""
        return hasattr(self.scheduler, "step_index")

    def timesteps(self) -> TimestepClock:
        """What tells the steps of a run by the timesteps of its forwards."""
        return TimestepClock(self._forwards, self._distances)

    def remove(self) -> None:
        """Restore the scheduler and drop everything."""
        for reference in reversed(self._patches):
            patch = reference()
            if patch is not None:
                patch.remove()
        self.forget()

    def forget(self) -> None:
        """Drop every cached tensor, and every run."""
        with self._lock:
            for run in list(self._runs):
                self._drop(run)

    def free(self, request: str | None) -> None:
        """Drop what is cached; what goes on begins with a computed step.

        Args:
            request: only of the request of this name.
        """
        with self._lock:
            for run in self._runs:
                if run.generation is not None and request in (None, run.name):
                    run.generation.forget()

    def announce(self) -> None:
        """There are new timesteps: a forward of this thread begins a generation."""
        request = current_request()
        if request is not None:
            self.run_of(request).announced = True
        else:
            with self._lock:
                self._announced[threading.get_ident()] = None
                self._waiting.add(threading.get_ident())

    def see(self) -> None:
        """There is a forward."""
        self.unseen = False
        self._waiting.clear()

    def run_of(self, request: str) -> Run:
        """The run of a request that the caller named."""
        with self._lock:
            for run in self._runs:
                if run.name == request:
                    return run
            return self._new(request)

    def find(self, traces: Traces, *, begins: bool) -> Run | None:
        """The run that a forward belongs to.

        Args:
            traces: the tensors that go into the forward.
            begins: somebody has told that a generation begins.

        Returns:
            The run, or None where it cannot be told.
        """
        request = current_request()
        if request is not None:
            return self._remember(self.run_of(request))
        with self._lock:
            thread = threading.get_ident()
            if thread in self._announced:
                del self._announced[thread]
                run = self._new()
                run.announced = True
                return self._remember(run)
            going = [run for run in self._runs if not run.over]
            if len(going) == 1 and going[0].here and not begins:
                return self._remember(going[0])
            ranked = sorted(going, key=lambda run: (*run.evidence(traces), run.here), reverse=True)
            if len(ranked) > 1 and self._alike(ranked, traces):
                return None
            if ranked and not begins and self._tells(ranked, traces):
                return self._remember(ranked[0])
            if self._announced and not any(run.here for run in going):
                # One thread has the scheduler set up, another one runs the loop.
                del self._announced[next(iter(self._announced))]
                run = self._new()
                run.announced = True
                return self._remember(run)
            if not begins:
                here = [run for run in self._runs if run.here and run.name is None]
                if here:
                    return self._remember(here[-1])
                if len(going) == 1 and self._stateful:
                    return self._remember(going[0])
            return self._remember(self._new())

    def _tells(self, ranked: list[Run], traces: Traces) -> bool:
        """Whether what goes in says more of the first run than of any other."""
        latents, likeness = ranked[0].evidence(traces)
        if latents:
            return True
        if self.scheduler is None and not ranked[0].here:
            return False  # another thread's, as far as anybody knows
        others = [run.evidence(traces)[1] for run in ranked[1:]]
        return likeness > max(others, default=0) or (ranked[0].here and not self._several_here)

    @property
    def _several_here(self) -> bool:
        return sum(run.here and not run.over for run in self._runs) > 1

    def _alike(self, ranked: list[Run], traces: Traces) -> bool:
        """Whether two runs of this thread are waiting for the same forward."""
        first, second = ranked[:2]
        same = first.evidence(traces) == second.evidence(traces)
        return same and first.waits and second.waits and first.here == second.here

    def _remember(self, run: Run) -> Run:
        run.touch()
        self._runs.remove(run)
        self._runs.append(run)
        return run

    def _new(self, name: str | None = None) -> Run:
        """A new run; what nobody can go on with goes."""
        run = Run(self.timesteps(), name)
        # A scheduler without a state serves several requests of a thread, in turns.
        single = self._scheduler is None or self._stateful
        for other in list(self._runs):
            replaced = other.here and other.name is None and (single or not other.waits)
            if replaced or other.lost or other.over:
                self._drop(other)
        while len(self._runs) >= MOST_RUNS:
            self._drop(self._runs[0])
        self._runs.append(run)
        return run

    def _drop(self, run: Run) -> None:
        if run.generation is not None:
            run.generation.end("another one began")
        run.release()
        self._runs.remove(run)

    def hand_over(self, run: Run, runs: Runs) -> None:
        """Give a run to the scheduler that its loop steps; what was announced here still holds."""
        with self._lock:
            self._runs.remove(run)
            if run.began:
                self.announce()
                self.see()
        run.claimed = True
        if run.generation is not None:
            run.generation.total, run.generation.cut_unknown = None, True
        with runs._lock:
            runs._announced.pop(threading.get_ident(), None)
            for other in list(runs._runs):
                if other.over or (run.name is not None and other.name == run.name):
                    runs._drop(other)
            runs._runs.append(run)

    def end(self, request: str | None, why: str) -> None:
        """What this thread runs, or a request of this name, is over."""
        with self._lock:
            for run in list(self._runs):
                mine = run.name == request and (request is not None or run.here)
                if mine and run.generation is not None and not run.announced:
                    run.generation.end(why)

    def restart(self, generation: Generation) -> None:
        """What a generation's forwards carried tells nothing any more: one of them raised."""
        for run in self._runs:
            if run.generation is generation:
                run.timesteps = self.timesteps()

    def current(self) -> Run | None:
        """The run of this thread's last forward."""
        request = current_request()
        if request is not None:
            return self.run_of(request)
        return next((run for run in reversed(self._runs) if run.here), None)

    def _step(self, result: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.steps = True
        self.unseen |= threading.get_ident() in self._waiting
        sample = kwargs.get("sample", args[2] if len(args) > 2 else None)
        run = self._stepping(sample)
        if run is None or run.over or run.announced:
            run = self._claim(self) or run
        if run is None:
            return
        run.stepped = True
        self._end_step(self, run, kwargs.get("timestep", args[1] if len(args) > 1 else None))
        new = result[0] if isinstance(result, tuple) else getattr(result, "prev_sample", None)
        run.latents = trace_of(new) if isinstance(new, torch.Tensor) else None

    def _stepping(self, sample: Any) -> Run | None:
        """The run whose step has ended: that of the latents, or of this thread's last forward."""
        run = self.current()
        if run is None:
            with self._lock:
                run = next((item for item in reversed(self._runs) if not item.over), None)
        if len(self._runs) < 2 or not isinstance(sample, torch.Tensor):
            return run
        for other in list(self._runs):
            own = other.latents
            if own is None or other is run or other.over or own != trace_of(sample):
                continue
            for mixed in filter(None, (run, other)):
                if mixed.generation is not None:
                    mixed.generation.fail(MIXED)
                    mixed.release()
            return other
        return run
