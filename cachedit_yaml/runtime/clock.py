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

import weakref
from typing import Any

import torch

from cachedit_yaml.compiler.plan import Plan
from cachedit_yaml.runtime.branches import Forward
from cachedit_yaml.runtime.callers import Caller
from cachedit_yaml.runtime.choice import Choice
from cachedit_yaml.runtime.generation import Generation, share_steps
from cachedit_yaml.runtime.history import History
from cachedit_yaml.runtime.pipelines import Pipelines
from cachedit_yaml.runtime.run import Run
from cachedit_yaml.runtime.runs import Runs
from cachedit_yaml.runtime.schedule import Schedule
from cachedit_yaml.runtime.schedulers import Schedulers
from cachedit_yaml.runtime.steps import Driven, Stepwise
from cachedit_yaml.runtime.timesteps import Event, moment
from cachedit_yaml.runtime.told import Told


class Clock:
    """Keeps the current generation of every request.

    Args:
        plan: tells the step split and, for a pipeline, where the scheduler is.

    Attributes:
        ratio: boundary ratio of the generations to come; None for the pipeline's.
        choice: what is wanted for the generations to come; None for what the plan says.
        driven: the generations whose steps callers count.
        pipelines: those whose loops are watched.
        history: the last generations, the newest last.
        told: numbers of steps of generations to come.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.ratio: float | None = None
        self.choice: Choice | None = None
        self.driven = Driven()
        self.history = History()
        self._forwards = {None: 0, False: 1, True: 2}[plan.separate_cfg]
        self._schedulers = Schedulers(
            lambda item, claim: Runs(item, self._forwards, self._end_step, claim)
        )
        self.pipelines = Pipelines(plan, self._schedulers)
        self.told = Told()

    def share(
        self, timesteps: torch.Tensor | None, total: int | None, pipeline: Any = None
    ) -> dict[str, int | None]:
        """:func:`share_steps` with the ratio of a pipeline; None for the one that was enabled."""
        holder = self.plan.pipeline if pipeline is None else pipeline
        ratio = self.plan.ratio_in(holder) if self.ratio is None else self.ratio
        return share_steps(self.plan, timesteps, total, ratio)

    @property
    def unseen(self) -> bool:
        """Whether a scheduler got timesteps and stepped, and no forward came in between.

        One of the plan's: those beside it may step for models that are not cached.
        """
        own = [self.plan.at(path) for path in self.plan.schedulers]
        return any(runs.unseen for runs in map(self._schedulers.runs_of, own))

    # --- whose generation ---

    def remove(self) -> None:
        """Restore the pipelines and forget every generation."""
        self.pipelines.remove()
        self.told = Told()
        for generation in (*self.history, *self.driven.of(None)):
            generation.end("caching was disabled")

    def release(self, request: str | None = None) -> None:
        """Drop what is cached, of all or of one request; what goes on computes its next step."""
        for runs in self._schedulers:
            runs.free(request)
        for generation in self.driven.of(request):
            generation.forget()

    def end_request(self, request: str | None, why: str) -> None:
        """A request is over, whatever was left of its generation; None: what this thread runs."""
        for runs in self._schedulers:
            runs.end(request, why)

    def begin(self, total: int, timesteps: torch.Tensor | None, what: str) -> Stepwise:
        """Begin a generation whose steps the caller counts; see :meth:`Handle.stepwise`."""
        generation = Generation(total, self.share(timesteps, total), by_scheduler=False)
        generation.choice, generation.what = self.choice, what
        self.driven.add(generation)
        self.history.append(generation)
        return Stepwise(self, generation)

    def generation(self, forward: Forward, caller: Caller) -> Generation:
        """The generation that a forward belongs to."""
        for item in self._schedulers:
            item.see()
        if self.driven.current is not None:
            return self.driven.current.parts[0][0]
        scheduler = caller.scheduler
        first = scheduler is not None and not self._schedulers.knows(scheduler)
        runs = self._schedulers.runs_of(scheduler)
        told = self.told.take()
        run = runs.find(forward.traces, begins=told is not None)
        if run is None:
            return self.history.mixed(self.share(None, None))
        if first and runs.scheduler is not None:
            run.announced = True  # its timesteps were set before anybody looked
        run.beside = tuple(map(weakref.ref, caller.others))
        generation = self._of(runs, run, forward, caller, told)
        if not generation.what:
            holder = caller.pipeline
            generation.what = run.name or (type(holder).__name__ if holder is not None else "")
        return generation

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
            run.timesteps = runs.timesteps()
            first = forward.moment if not runs.steps or schedule.cut_unknown else None
            if first is not None or forward.timestep.element is not None:
                run.timesteps.see(forward.timestep, forward.name, forward.traces)
            timesteps = schedule.executed(first)
            # What begins at the end of a schedule may lead up it, without its scheduler.
            up = schedule.cut_unknown and timesteps is not None and len(timesteps) == 1
            timesteps = None if up and schedule.steps > 1 else timesteps
            total = told[0] if timesteps is None and told is not None else None
            generation = self._begin(runs, run, schedule, timesteps, total, by_scheduler=True)
            generation.after = up
            run.began = True
            return generation
        begun = told is not None
        if told is not None:
            run.timesteps = runs.timesteps()
            timesteps = schedule.put_in(forward.timestep)
            self._begin(runs, run, schedule, timesteps, told[0], by_scheduler=False)
        elif run.generation is not None and run.generation.by_scheduler:
            generation = run.generation
            if generation.ended == "finished" and generation.begins_again(forward.moment):
                values = schedule.executed(forward.moment)
                return self._begin(runs, run, schedule, values, None, by_scheduler=True)
            if generation.over and (forward.timestep.given or schedule.replaced):
                return self._after(runs, run, forward, caller)
            unseen = runs.steps and generation.total is not None
            if generation.tick or (unseen and forward.timestep.element is None):
                return generation
            if not self._stands_still(run, forward):
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

    def _after(self, runs: Runs, run: Run, forward: Forward, caller: Caller) -> Generation:
        """A forward after the last step: a loop of somebody's own, which steps no scheduler."""
        run.timesteps = runs.timesteps()
        run.timesteps.see(forward.timestep, forward.name, forward.traces)
        schedule = Schedule(runs, caller.pipeline)
        generation = self._begin(runs, run, schedule, None, None, by_scheduler=False)
        generation.after = True
        return generation

    @staticmethod
    def _stands_still(run: Run, forward: Forward) -> bool:
        """Whether a forward belongs to a step that no scheduler has begun."""
        known = run.timesteps.knows(forward.name)
        event = run.timesteps.see(forward.timestep, forward.name, forward.traces)
        return event is Event.STEP and known

    def _by_timestep(
        self, runs: Runs, run: Run, schedule: Schedule, forward: Forward, *, begun: bool
    ) -> Generation:
        name = forward.name
        generation = run.generation
        total = None if generation is None else generation.total
        last = generation is None or total is None or generation.tick + 1 >= total
        event = run.timesteps.see(forward.timestep, name, forward.traces, last=last)
        if generation is None or (event is Event.GENERATION and not begun):
            # What the pipeline says of its own loop is nothing to one of somebody's own.
            after = generation is not None and generation.after
            total = None if runs.scheduler is None or after else schedule.looped
            timesteps = schedule.put_in(forward.timestep)
            generation = self._begin(runs, run, schedule, timesteps, total, by_scheduler=False)
            generation.after = after
        elif event is Event.STEP:
            generation.end_step()
            if total is None and run.timesteps.mixed:
                generation.forget()
        known = generation.total is not None and run.timesteps.counts(name)
        if not known and not forward.timestep.given:
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
        generation.choice = self.choice
        if timesteps is not None:
            # A number is read where that waits for nothing.
            first = timesteps[0]
            generation.first = float(first) if first.device.type == "cpu" else first
        generation.cut_unknown = schedule.cut_unknown
        run.generation = generation
        run.stepped = run.claimed = run.began = False
        self.history.append(generation)
        return generation

    # --- its steps ---

    def may_announce(self, generation: Generation) -> bool:
        """Whether the pipeline's scheduler may yet tell how many steps are to come.

        It has told none, and no step has ended: pipelines call their transformers before the
        first step too, to encode condition pictures for example, and after the last.
        """
        early = generation.tick == 0 or generation.after
        return self._schedulers.any and generation.total is None and early

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
        total, schedule = generation.total, Schedule(runs, None)
        if total is None and not generation.by_scheduler and schedule.executed(None) is None:
            return  # it could tell no generation, and the timesteps of the forwards may
        generation.by_scheduler = True
        run.timesteps.rest()
        # The first step tells where the loop began, if its forwards carried no timestep.
        late = run.claimed and total is None
        asked = late or (generation.tick == 0 and (total is None or generation.cut_unknown))
        first = moment(timestep) if asked else None
        values = schedule.executed(first) if first is not None else None
        if values is not None and (total is None or len(values) < total):
            generation.blind = False
            generation.total = generation.tick + len(values)
            generation.shares = self.share(values, generation.total)
        generation.end_step()

    def fail(self, generation: Generation) -> None:
        """A forward raised: what is left of its generation runs uncached."""
        generation.fail("a forward of this generation raised")
        for runs in self._schedulers:
            runs.restart(generation)
