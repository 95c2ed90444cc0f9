"""The clock of a generation: which step it is at, and how many steps it executes.

For a pipeline the scheduler is the clock. ``set_timesteps`` announces a generation, which begins
with the next forward of a transformer; each ``step`` ends a step. How many steps are executed is
read at that first forward, when the true timesteps and the begin index (img2img) are known. Hooks
sit on the scheduler instance: copies of it and other schedulers of the class know nothing of them.

Without a pipeline, or where an engine keeps schedulers of its own, the timestep that the
transformer is called with is the clock, see :class:`TimestepClock`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import torch

from cachedit_yaml.compiler.plan import Plan
from cachedit_yaml.runtime.generation import Generation, share_steps
from cachedit_yaml.runtime.patching import Patch
from cachedit_yaml.runtime.timesteps import Event, TimestepClock, scalar


class _SchedulerHook(Patch):
    """Stands in for one method of the scheduler."""

    def __init__(self, scheduler: Any, name: str, clock: Clock) -> None:
        super().__init__(scheduler, name)
        self.clock = clock


class _SetTimesteps(_SchedulerHook):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self.inner(*args, **kwargs)
        if self.active:
            self.clock.announce()
        return result


class _Step(_SchedulerHook):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self.inner(*args, **kwargs)
        if self.active:
            self.clock.end_step()
        return result


class _Run(threading.local):
    """What the current thread runs.

    Attributes:
        generation: its current generation.
        announced: the scheduler got new timesteps: the next forward begins a generation.
        refreshes: this thread calls `refresh` itself, so it takes no other thread's.
        stepped_to: the scheduler's index after its last step; None once a forward came after it.
    """

    def __init__(self, forwards: int) -> None:
        self.generation: Generation | None = None
        self.announced = False
        self.refreshes = False
        self.stepped_to: int | None = None
        self.timesteps = TimestepClock(forwards)


class Clock:
    """Keeps the current generation of every thread.

    Args:
        plan: tells the step split and, for a pipeline, where the scheduler is.

    Attributes:
        latest: the generation that began last, in any thread.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.pipeline = plan.pipeline
        self.latest: Generation | None = None
        self._forwards = {None: 0, False: 1, True: 2}[plan.separate_cfg]
        self._run = _Run(self._forwards)
        self._generations: weakref.WeakSet[Generation] = weakref.WeakSet()
        # Steps that the next generation executes, by the thread that called refresh().
        self._told: dict[int, int | None] = {}
        self._patches: list[Patch] = []
        self._scheduler: Any = None
        self._lock = threading.Lock()

    def install(self) -> None:
        """Hook the pipeline's scheduler, if there is one."""
        scheduler = getattr(self.pipeline, "scheduler", None)
        if scheduler is None or not hasattr(scheduler, "set_timesteps"):
            return
        self._scheduler = scheduler
        hooks: tuple[tuple[str, type[_SchedulerHook]], ...] = (
            ("set_timesteps", _SetTimesteps),
            ("step", _Step),
        )
        for name, kind in hooks:
            if hasattr(scheduler, name):
                patch = kind(scheduler, name, self)
                self._patches.append(patch)
                patch.install()

    def remove(self) -> None:
        """Restore the scheduler and forget every generation."""
        self._unhook()
        for generation in list(self._generations):
            generation.release()
        self._run = _Run(self._forwards)
        self._told.clear()

    def _unhook(self) -> None:
        for patch in reversed(self._patches):
            patch.remove()
        self._patches = []
        self._scheduler = None

    def announce(self) -> None:
        """The scheduler got new timesteps: this thread's next forward begins a generation."""
        self._run.announced = True

    def refresh(self, total: int | None) -> None:
        """The next forward begins a generation of ``total`` executed steps.

        That is this thread's next forward, or that of a thread which never calls this itself.
        """
        with self._lock:
            self._told[threading.get_ident()] = total

    def end_step(self) -> None:
        """The scheduler finished a step.

        A pipeline may have it do one step twice: once for the denoised sample, after which it sets
        the scheduler's index back, and again for the next latents. Both end at the same index with
        no forward between them, and are one step.
        """
        run = self._run
        index = getattr(self._scheduler, "step_index", None)
        again = index is not None and index == run.stepped_to
        run.stepped_to = index
        if run.generation is not None and not run.announced and not again:
            run.generation.by_scheduler = True
            run.generation.end_step()

    def fail(self) -> None:
        """A forward raised: what is left of this thread's generation runs uncached."""
        run = self._run
        run.timesteps = TimestepClock(self._forwards)
        if run.generation is not None:
            run.generation.failed = True
            run.generation.release()

    def generation(self, timestep: Callable[[], Any], name: str | None) -> Generation:
        """The generation that this thread's current forward belongs to.

        Args:
            timestep: gives the timestep of the forward; asked only where no scheduler tells.
            name: the guidance branch that the pipeline announced.
        """
        run = self._run
        run.stepped_to = None
        self._follow_scheduler(run)
        told = self._take_told(run) if self._told else None
        if run.announced:
            run.announced = False
            timesteps = self._executed_timesteps()
            total = told[0] if timesteps is None and told is not None else None
            return self._begin(run, timesteps, total, by_scheduler=True)
        if told is not None:
            run.timesteps = TimestepClock(self._forwards)
            self._begin(run, None, told[0], by_scheduler=False)
        elif run.generation is not None and run.generation.by_scheduler:
            return run.generation
        return self._by_timestep(run, scalar(timestep()), name, begun=told is not None)

    def _by_timestep(
        self, run: _Run, timestep: float | None, name: str | None, *, begun: bool
    ) -> Generation:
        event = run.timesteps.see(timestep, name)
        generation = run.generation
        if generation is None or (event is Event.GENERATION and not begun):
            generation = self._begin(run, None, None, by_scheduler=False)
        elif event is Event.STEP:
            generation.end_step()
        if timestep is None and (generation.total is None or not run.timesteps.counts(name)):
            generation.blind = True
        return generation

    def _take_told(self, run: _Run) -> tuple[int | None] | None:
        """What `refresh` told, by this thread or by one that only tells."""
        with self._lock:
            thread = threading.get_ident()
            if thread in self._told:
                run.refreshes = True
            elif self._told and not run.refreshes:
                thread = next(iter(self._told))
            else:
                return None
            return (self._told.pop(thread),)

    def _follow_scheduler(self, run: _Run) -> None:
        """Users replace ``pipeline.scheduler``: hook the new one, which has its timesteps set."""
        if self._scheduler is None:
            return
        scheduler = getattr(self.pipeline, "scheduler", None)
        if scheduler is self._scheduler or scheduler is None:
            return
        self._unhook()
        self.install()
        run.announced = True

    def _begin(
        self, run: _Run, timesteps: torch.Tensor | None, total: int | None, *, by_scheduler: bool
    ) -> Generation:
        if run.generation is not None:
            run.generation.release()
        if timesteps is not None:
            total = len(timesteps)
        generation = Generation(total, share_steps(self.plan, timesteps, total), by_scheduler)
        run.generation = self.latest = generation
        self._generations.add(generation)
        return generation

    def _executed_timesteps(self) -> torch.Tensor | None:
        """The timesteps that will be executed, from the hooked scheduler."""
        timesteps = getattr(self._scheduler, "timesteps", None)
        if timesteps is None:
            return None
        values = torch.as_tensor(timesteps)
        if values.ndim != 1 or not len(values):
            return None
        sigmas = getattr(self._scheduler, "sigmas", None)
        if sigmas is not None and len(sigmas) == len(values) > 1 and float(sigmas[-1]) == 0:
            values = values[:-1]  # noise level zero is where the last step leads, and no step
        begin = getattr(self._scheduler, "begin_index", None)
        if begin is None:
            # Nobody said where the loop begins; pipelines keep the number of timesteps that they
            # loop over, after a cut at the front.
            looped = getattr(self.pipeline, "num_timesteps", None)
            if isinstance(looped, int) and 0 < looped < len(values):
                begin = len(values) - looped
        return values[begin or 0 :]
