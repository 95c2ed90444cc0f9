"""The clock of a generation: which step it is at, and how many steps it executes.

For a pipeline the scheduler is the clock. ``set_timesteps`` announces a generation, which begins
with the next forward of a transformer; each ``step`` ends a step. How many steps are executed is
read at that first forward, when the true timesteps and the begin index (img2img) are known. Hooks
sit on the scheduler instance: copies of it and other schedulers of the class know nothing of them.

Without a pipeline, where an engine keeps schedulers of its own, or where the pipeline steps copies
of its scheduler, the timestep that the transformer is called with is the clock, see
:class:`TimestepClock`.
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
from cachedit_yaml.runtime.timesteps import Event, Moment, TimestepClock, moment


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
            self.clock.end_step(kwargs.get("timestep", args[1] if len(args) > 1 else None))
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
        ratio: boundary ratio of the generations to come; None for the pipeline's.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.pipeline = plan.pipeline
        self.latest: Generation | None = None
        self.ratio: float | None = None
        self._forwards = {None: 0, False: 1, True: 2}[plan.separate_cfg]
        self._run = _Run(self._forwards)
        self._generations: weakref.WeakSet[Generation] = weakref.WeakSet()
        # Steps that the next generation executes, by the thread that called refresh().
        self._told: dict[int, int | None] = {}
        self._patches: list[Patch] = []
        self._scheduler: Any = None
        self._steps = False  # the hooked scheduler has ended a step
        self._seen: Any = None  # the scheduler's timesteps when the last generation began
        self._lock = threading.Lock()

    def share(self, timesteps: torch.Tensor | None, total: int | None) -> dict[str, int | None]:
        """How many of the executed steps each transformer runs."""
        ratio = self.plan.ratio if self.ratio is None else self.ratio
        return share_steps(self.plan, timesteps, total, ratio)

    def install(self) -> None:
        """Hook the pipeline's scheduler, if there is one."""
        scheduler = self.plan.scheduler
        if scheduler is None or not hasattr(scheduler, "set_timesteps"):
            return
        self._scheduler = scheduler
        self._seen = getattr(scheduler, "timesteps", None)
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
        self._steps = False

    def announce(self) -> None:
        """The scheduler got new timesteps: this thread's next forward begins a generation."""
        self._run.announced = True

    def may_announce(self, generation: Generation) -> bool:
        """Whether the pipeline's scheduler may yet tell how many steps are to come.

        It has told none, and no step has ended: pipelines call their transformers before the
        first step too, to encode condition pictures for example.
        """
        return self._scheduler is not None and generation.total is None and generation.tick == 0

    def refresh(self, total: int | None) -> None:
        """The next forward begins a generation of ``total`` executed steps.

        That is this thread's next forward, or that of a thread which never calls this itself.
        """
        with self._lock:
            self._told[threading.get_ident()] = total

    def end_step(self, timestep: Any = None) -> None:
        """The scheduler finished a step.

        A pipeline may have it do one step twice: once for the denoised sample, after which it sets
        the scheduler's index back, and again for the next latents. Both end at the same index with
        no forward between them, and are one step.

        Args:
            timestep: that it was given.
        """
        self._steps = True
        run = self._run
        index = getattr(self._scheduler, "step_index", None)
        again = index is not None and index == run.stepped_to
        run.stepped_to = index
        if run.generation is not None and not run.announced and not again:
            run.generation.by_scheduler = True
            if run.generation.tick == 0 and self._cut_unknown:
                self._cut(run.generation, moment(timestep))
            run.generation.end_step()

    def _cut(self, generation: Generation, first: Moment | None) -> None:
        """The first step tells where the loop began, if its forwards carried no timestep."""
        values = self._executed_timesteps(first)
        if first is None or values is None or generation.total is None:
            return
        if len(values) < generation.total:
            generation.total = len(values)
            generation.shares = self.share(values, len(values))

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
            run.timesteps = TimestepClock(self._forwards)
            first = moment(timestep()) if not self._steps or self._cut_unknown else None
            if not self._steps:
                run.timesteps.see(first, name)
            timesteps = self._executed_timesteps(first)
            total = told[0] if timesteps is None and told is not None else None
            return self._begin(run, timesteps, total, by_scheduler=True)
        if told is not None:
            run.timesteps = TimestepClock(self._forwards)
            timesteps = self._put_in(moment(timestep()))
            self._begin(run, timesteps, told[0], by_scheduler=False)
        elif run.generation is not None and run.generation.by_scheduler:
            generation = run.generation
            if self._steps or generation.tick or not self._stands_still(run, timestep, name):
                return generation
            # The pipeline steps copies of its scheduler, and knows how often.
            generation.by_scheduler = False
            if self._looped is not None and self._looped != generation.total:
                generation.total = self._looped
                generation.shares = self.share(None, self._looped)
            generation.end_step()
            return generation
        return self._by_timestep(run, moment(timestep()), name, begun=told is not None)

    @staticmethod
    def _stands_still(run: _Run, timestep: Callable[[], Any], name: str | None) -> bool:
        """Whether a forward belongs to a step that no scheduler has begun."""
        known = run.timesteps.knows(name)
        return run.timesteps.see(moment(timestep()), name) is Event.STEP and known

    def _by_timestep(
        self, run: _Run, timestep: Moment | None, name: str | None, *, begun: bool
    ) -> Generation:
        event = run.timesteps.see(timestep, name)
        generation = run.generation
        if generation is None or (event is Event.GENERATION and not begun):
            total = None if self._scheduler is None else self._looped
            generation = self._begin(run, self._put_in(timestep), total, by_scheduler=False)
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
        scheduler = self.plan.scheduler
        if scheduler is self._scheduler or scheduler is None:
            return
        with self._lock:
            if self.plan.scheduler is not self._scheduler:  # another thread may have been faster
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
        self._seen = getattr(self._scheduler, "timesteps", None)
        generation = Generation(total, self.share(timesteps, total), by_scheduler)
        run.generation = self.latest = generation
        self._generations.add(generation)
        return generation

    @property
    def _looped(self) -> int | None:
        """Pipelines keep the number of steps that they loop over."""
        looped = getattr(self.plan.looping, "num_timesteps", None)
        return looped if isinstance(looped, int) and looped > 0 else None

    @property
    def _cut_unknown(self) -> bool:
        """Whether nobody says where among the scheduler's timesteps the loop begins."""
        return getattr(self._scheduler, "begin_index", None) is None and self._looped is None

    def _put_in(self, first: Moment | None) -> torch.Tensor | None:
        """The timesteps that a pipeline has put into its scheduler without ``set_timesteps``.

        Args:
            first: what the first forward carries: those of another schedule do not begin with it.
        """
        if first is None or getattr(self._scheduler, "timesteps", None) is self._seen:
            return None
        values = self._executed_timesteps(first)
        return values if values is not None and float(values[0]) == first.largest else None

    def _executed_timesteps(self, first: Moment | None) -> torch.Tensor | None:
        """The timesteps that will be executed, from the hooked scheduler.

        Args:
            first: what the first forward carries, where nothing else says where the loop begins.
        """
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
        looped = self._looped
        if begin is None:
            # Pipelines cut the timesteps at the front.
            if looped is not None:
                begin = max(0, len(values) - looped)
            elif first is not None:
                found = (values == first.largest).nonzero()
                begin = int(found[0]) if len(found) else 0
            return values[begin or 0 :]
        # Where a schedule ends with its last timestep, the loop ends before it.
        ends = looped is not None and begin + looped == len(values) - 1
        return values[begin:-1] if ends else values[begin:]
