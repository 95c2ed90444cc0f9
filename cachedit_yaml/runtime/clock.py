"""The clock of a generation: which step it is at, and how many steps it executes.

For a pipeline the scheduler is the clock: the one of the loop that calls the transformer, which
need not be that of the pipeline for which caching was enabled. ``set_timesteps`` announces a
generation, which begins with the next forward of a transformer; each ``step`` ends a step. How many
steps are executed is read at that first forward, when the true timesteps and the begin index
(img2img) are known. Hooks sit on scheduler instances: other ones of the class know nothing of them.

Without a pipeline, where an engine keeps schedulers of its own, or where the pipeline steps copies
of its scheduler, the timestep that the transformer is called with is the clock, see
:class:`TimestepClock`.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch

from cachedit_yaml.compiler.plan import Plan
from cachedit_yaml.runtime.callers import Caller, caller_of
from cachedit_yaml.runtime.calls import Calls
from cachedit_yaml.runtime.generation import Generation, share_steps
from cachedit_yaml.runtime.identity import Traces
from cachedit_yaml.runtime.runs import MIXED, Run, Runs, current_request
from cachedit_yaml.runtime.timesteps import Event, Moment, TimestepClock, moment

#: How many generations are remembered for people.
_REMEMBERED: Final = 32


@dataclass(frozen=True)
class Forward:
    """One forward of a transformer, as it is called.

    Attributes:
        timestep: gives its timestep; asked only where no scheduler tells.
        name: the guidance branch that the pipeline announced.
        traces: the tensors that go into it.
    """

    timestep: Callable[[], Any]
    name: str | None
    traces: Traces

    @property
    def moment(self) -> Moment | None:
        """Its timestep, if it can be read."""
        return moment(self.timestep())


class Clock:
    """Keeps the current generation of every request.

    Args:
        plan: tells the step split and, for a pipeline, where the scheduler is.

    Attributes:
        ratio: boundary ratio of the generations to come; None for the pipeline's.
        history: the last generations, the newest last.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.ratio: float | None = None
        self.history: deque[Generation] = deque(maxlen=_REMEMBERED)
        self._forwards = {None: 0, False: 1, True: 2}[plan.separate_cfg]
        self._leaf = (plan.spec.scheduler or "scheduler").rpartition(".")[2]
        self._nobody: Runs | None = None
        self._runs: dict[int, tuple[weakref.ref[Any], Runs]] = {}
        # Steps that the next generation executes, by the thread that called refresh().
        self._told: dict[int, int | None] = {}
        self._tellers: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._lock = threading.RLock()
        self._mixed: Generation | None = None
        self._calls = Calls(self._end_call)

    @property
    def latest(self) -> Generation | None:
        """The last generation that is over, or whose end nobody tells; else the one that runs."""
        known = list(self.history)
        # Only a scheduler tells of a last step that it has ended.
        over = [item for item in known if item.ended or not (item.total and item.by_scheduler)]
        found = over or known
        return found[-1] if found else None

    def share(
        self, timesteps: torch.Tensor | None, total: int | None, pipeline: Any = None
    ) -> dict[str, int | None]:
        """How many of the executed steps each transformer runs.

        Args:
            timesteps: the executed timesteps ``[n]``, where they are known.
            total: number of executed steps, or None.
            pipeline: the one that runs them; None for the one that was enabled.
        """
        holder = self.plan.pipeline if pipeline is None else pipeline
        ratio = self.plan.ratio_in(holder) if self.ratio is None else self.ratio
        return share_steps(self.plan, timesteps, total, ratio)

    # --- whose generation ---

    def install(self) -> None:
        """Hook the pipeline's scheduler, if there is one."""
        self._nobody = Runs(None, self._forwards, self._end_step)
        scheduler = self.plan.scheduler
        if scheduler is not None:
            self._runs_of(scheduler)
            self._calls.watch(self.plan.looping)

    def remove(self) -> None:
        """Restore the schedulers and forget every generation."""
        self._calls.remove()
        for runs in self._all():
            runs.remove()
        self._runs.clear()
        self._told.clear()
        for generation in self.history:
            generation.end("caching was disabled")

    def release(self, request: str | None = None) -> None:
        """Drop every cached tensor, or those of one request."""
        for runs in self._all():
            if request is None:
                runs.release()
            else:
                runs.end(request, "released")
        if request is None:
            for generation in self.history:
                generation.end("released")

    def _all(self) -> list[Runs]:
        with self._lock:
            found = [runs for _, runs in self._runs.values()]
        return found if self._nobody is None else [*found, self._nobody]

    def _runs_of(self, scheduler: Any) -> Runs:
        """The runs of a scheduler, which is hooked when it is first seen."""
        if not hasattr(scheduler, "set_timesteps"):
            assert self._nobody is not None
            return self._nobody
        with self._lock:
            known = self._runs.get(id(scheduler))
            if known is not None and known[0]() is scheduler:
                return known[1]
            runs = Runs(scheduler, self._forwards, self._end_step)
            key = id(scheduler)
            gone = weakref.ref(scheduler, lambda _: self._forget(key))
            self._runs[key] = gone, runs
            return runs

    def _forget(self, key: int) -> None:
        with self._lock:
            known = self._runs.get(key)
            if known is not None and known[0]() is None:
                del self._runs[key]
                known[1].release()

    def caller(self, module: torch.nn.Module) -> Caller:
        """The loop that calls a transformer."""
        if self.plan.pipeline is None:
            return Caller()
        caller = caller_of(module, self._leaf)
        self._calls.watch(caller.pipeline)
        return caller

    def refresh(self, total: int | None) -> None:
        """The next forward begins a generation of ``total`` executed steps.

        That is this thread's next forward, or that of a thread which never calls this itself.
        """
        with self._lock:
            alive = {thread.ident for thread in threading.enumerate()}
            self._told = {key: value for key, value in self._told.items() if key in alive}
            self._told[threading.get_ident()] = total

    def _take_told(self) -> tuple[int | None] | None:
        """What `refresh` told, by this thread or by one that only tells."""
        if not self._told:
            return None
        with self._lock:
            thread = threading.get_ident()
            if thread in self._told:
                self._tellers.add(threading.current_thread())
            elif self._told and threading.current_thread() not in self._tellers:
                thread = next(iter(self._told))
            else:
                return None
            return (self._told.pop(thread),)

    def generation(self, forward: Forward, caller: Caller) -> Generation:
        """The generation that a forward belongs to."""
        scheduler = caller.scheduler
        if scheduler is None and self.plan.pipeline is not None:
            scheduler = self.plan.scheduler
        first = scheduler is not None and id(scheduler) not in self._runs
        assert self._nobody is not None
        runs = self._nobody if scheduler is None else self._runs_of(scheduler)
        told = self._take_told()
        run = runs.find(forward.traces, begins=told is not None)
        if run is None:
            return self._unknown()
        if first and runs is not self._nobody:
            run.announced = True  # its timesteps were set before anybody looked
        generation = self._of(runs, run, forward, caller, told)
        if not generation.what:
            holder = caller.pipeline
            generation.what = run.name or (type(holder).__name__ if holder is not None else "")
        return generation

    def _unknown(self) -> Generation:
        """A generation for a forward that may belong to either of two requests."""
        latest = self.history[-1] if self.history else None
        if latest is None or latest is not self._mixed:
            latest = self._mixed = Generation(None, self.share(None, None), by_scheduler=False)
            latest.fail(MIXED)
            self.history.append(latest)
        return latest

    def _of(
        self,
        runs: Runs,
        run: Run,
        forward: Forward,
        caller: Caller,
        told: tuple[int | None] | None,
    ) -> Generation:
        run.stepped_to = None
        schedule = Schedule(runs, caller.pipeline)
        if run.announced:
            run.announced = False
            run.timesteps = TimestepClock(self._forwards)
            first = forward.moment if not runs.steps or schedule.cut_unknown else None
            if not runs.steps:
                run.timesteps.see(first, forward.name)
            timesteps = schedule.executed(first)
            total = told[0] if timesteps is None and told is not None else None
            return self._begin(runs, run, schedule, timesteps, total, by_scheduler=True)
        begun = told is not None
        if told is not None:
            run.timesteps = TimestepClock(self._forwards)
            timesteps = schedule.put_in(forward.moment)
            self._begin(runs, run, schedule, timesteps, told[0], by_scheduler=False)
        elif run.generation is not None and run.generation.by_scheduler:
            generation = run.generation
            if generation.ended == "finished" and self._begins_again(generation, forward):
                values = schedule.executed(forward.moment)
                return self._begin(runs, run, schedule, values, None, by_scheduler=True)
            if runs.steps or generation.tick or not self._stands_still(run, forward):
                return generation
            # The pipeline steps copies of its scheduler, and knows how often.
            generation.by_scheduler = False
            looped = schedule.looped
            if looped is not None and looped != generation.total:
                generation.total = looped
                generation.shares = self.share(None, looped)
            generation.end_step()
            return generation
        return self._by_timestep(runs, run, schedule, forward, begun=begun)

    @staticmethod
    def _begins_again(generation: Generation, forward: Forward) -> bool:
        """Whether a loop runs once more over the timesteps that it was given once, for a chunk."""
        now = forward.moment
        first = generation.first
        return now is not None and first is not None and now.largest == float(first)

    @staticmethod
    def _stands_still(run: Run, forward: Forward) -> bool:
        """Whether a forward belongs to a step that no scheduler has begun."""
        known = run.timesteps.knows(forward.name)
        return run.timesteps.see(forward.moment, forward.name) is Event.STEP and known

    def _by_timestep(
        self, runs: Runs, run: Run, schedule: Schedule, forward: Forward, *, begun: bool
    ) -> Generation:
        timestep, name = forward.moment, forward.name
        event = run.timesteps.see(timestep, name)
        generation = run.generation
        if generation is None or (event is Event.GENERATION and not begun):
            total = None if runs.scheduler is None else schedule.looped
            timesteps = schedule.put_in(timestep)
            generation = self._begin(runs, run, schedule, timesteps, total, by_scheduler=False)
        elif event is Event.STEP:
            generation.end_step()
        if timestep is None and (generation.total is None or not run.timesteps.counts(name)):
            generation.blind = True
        return generation

    def _begin(
        self,
        runs: Runs,
        run: Run,
        schedule: Schedule,
        timesteps: torch.Tensor | None,
        total: int | None,
        *,
        by_scheduler: bool,
    ) -> Generation:
        if run.generation is not None:
            run.generation.end("another one began")
        if timesteps is not None:
            total = len(timesteps)
        runs.seen = getattr(runs.scheduler, "timesteps", None)
        shares = self.share(timesteps, total, schedule.pipeline)
        generation = Generation(total, shares, by_scheduler)
        if timesteps is not None:
            # A number is read where that waits for nothing.
            first = timesteps[0]
            generation.first = float(first) if first.device.type == "cpu" else first
        generation.cut_unknown = schedule.cut_unknown
        run.generation = generation
        self.history.append(generation)
        return generation

    # --- its steps ---

    def may_announce(self, generation: Generation) -> bool:
        """Whether the pipeline's scheduler may yet tell how many steps are to come.

        It has told none, and no step has ended: pipelines call their transformers before the
        first step too, to encode condition pictures for example.
        """
        return bool(self._runs) and generation.total is None and generation.tick == 0

    def _end_step(self, runs: Runs, run: Run, timestep: Any) -> None:
        """A scheduler finished a step.

        A pipeline may have it do one step twice: once for the denoised sample, after which it sets
        the scheduler's index back, and again for the next latents. Both end at the same index with
        no forward between them, and are one step.
        """
        index = getattr(runs.scheduler, "step_index", None)
        again = index is not None and index == run.stepped_to
        run.stepped_to = index
        generation = run.generation
        if generation is None or run.announced or again:
            return
        generation.by_scheduler = True
        schedule = Schedule(runs, None)
        if generation.tick == 0 and generation.total is not None and generation.cut_unknown:
            # The first step tells where the loop began, if its forwards carried no timestep.
            first = moment(timestep)
            values = schedule.executed(first)
            if first is not None and values is not None and len(values) < generation.total:
                generation.total = len(values)
                generation.shares = self.share(values, len(values))
        generation.end_step()

    def fail(self, generation: Generation) -> None:
        """A forward raised: what is left of its generation runs uncached."""
        generation.fail("a forward of this generation raised")
        for runs in self._all():
            runs.restart(generation)

    def _end_call(self, pipeline: Any, why: str) -> None:
        known = self._runs.get(id(getattr(pipeline, self._leaf, None)))
        if known is not None:
            known[1].end(current_request(), why)


class Schedule:
    """What a scheduler, and the pipeline that loops over its steps, tell of a generation.

    Args:
        runs: of the scheduler.
        pipeline: the one whose loop calls the transformer; None where it is not known.
    """

    def __init__(self, runs: Runs, pipeline: Any) -> None:
        self._scheduler = runs.scheduler
        self._seen = runs.seen
        self.pipeline = pipeline

    @property
    def looped(self) -> int | None:
        """Pipelines keep the number of steps that they loop over."""
        looped = getattr(self.pipeline, "num_timesteps", None)
        return looped if isinstance(looped, int) and looped > 0 else None

    @property
    def cut_unknown(self) -> bool:
        """Whether nobody says where among the scheduler's timesteps the loop begins."""
        return getattr(self._scheduler, "begin_index", None) is None and self.looped is None

    def put_in(self, first: Moment | None) -> torch.Tensor | None:
        """The timesteps that a pipeline has put into its scheduler without ``set_timesteps``.

        Args:
            first: what the first forward carries: those of another schedule do not begin with it.
        """
        if first is None or getattr(self._scheduler, "timesteps", None) is self._seen:
            return None
        values = self.executed(first)
        return values if values is not None and float(values[0]) == first.largest else None

    def executed(self, first: Moment | None) -> torch.Tensor | None:
        """The timesteps that will be executed, ``[n]``.

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
        looped = self.looped
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
