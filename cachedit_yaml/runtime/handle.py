"""The handle of a cached pipeline: refresh, look at it, switch it off."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from cachedit_yaml.compiler.paths import said
from cachedit_yaml.compiler.plan import Plan
from cachedit_yaml.errors import CacheRuntimeError, ConfigError
from cachedit_yaml.runtime.advice import advice_of
from cachedit_yaml.runtime.cached import CACHED, refuse_if_cached
from cachedit_yaml.runtime.changes import changes_of, displaced
from cachedit_yaml.runtime.choice import Choice
from cachedit_yaml.runtime.clock import Clock
from cachedit_yaml.runtime.generation import Generation
from cachedit_yaml.runtime.patching import Patch
from cachedit_yaml.runtime.requests import within
from cachedit_yaml.runtime.stats import Stats, warnings_about
from cachedit_yaml.runtime.steps import Stepwise

if TYPE_CHECKING:
    from cachedit_yaml.runtime.execution import Execution

_ABSENT = object()


class Handle:
    """Caching that is on for one pipeline or transformer.

    Also a context manager: leaving it disables caching.

    Attributes:
        plan: what the adapter was compiled into.
        execution: ``loop`` or ``native``.
    """

    def __init__(self, plan: Plan, execution: Execution, clock: Clock) -> None:
        self.plan = plan
        self._execution = execution
        self._clock = clock
        self._patches: list[Patch] = []
        self._flags: dict[str, Any] = {}
        self._lock = threading.Lock()
        self.enabled = False

    @property
    def execution(self) -> str:
        """``loop`` or ``native``."""
        return self._execution.name

    def _enable(self) -> None:
        """Install everything, or nothing."""
        refuse_if_cached(self.plan)
        with self._lock:
            self.enabled = True
            try:
                for transformer in self.plan.transformers:
                    CACHED[transformer.module] = weakref.ref(self)
                self._execution.install()
                for patch in self._execution.patches:
                    self._patches.append(patch)
                    patch.keeps = self
                    patch.install()
                self._clock.pipelines.install()
                for name, value in self.plan.flags.items():
                    before = vars(self.plan.pipeline).get(name, _ABSENT)
                    try:
                        setattr(self.plan.pipeline, name, value)
                    except Exception as error:  # a property without a setter, say
                        what = f"set: pipeline.{name} cannot be set: {said(error)}"
                        raise CacheRuntimeError(what) from error
                    self._flags[name] = before
            except BaseException:
                self._undo()
                raise

    def refresh(self, num_inference_steps: int | None = None) -> None:
        """Begin a new generation with the next forward.

        Pipelines with a diffusers scheduler do this by themselves; engines and loops of your own
        call it before each generation.

        Args:
            num_inference_steps: steps that the generation executes. Where a scheduler tells the
                number itself, that is the truth.

        Raises:
            ValueError: the number is not a whole number from 1 on.
            CacheRuntimeError: the handle was disabled.
        """
        if not self.enabled:
            raise CacheRuntimeError("caching is off: this handle was disabled")
        steps = num_inference_steps
        if steps is not None and (not isinstance(steps, int) or steps < 1):
            raise ValueError(f"num_inference_steps must be a whole number from 1 on, not {steps!r}")
        self._clock.told.tell(num_inference_steps)

    @property
    def boundary_ratio(self) -> float | None:
        """Boundary ratio of the generations to come, where a request says one; None: the plan's.

        Only an adapter whose `step_split` has a boundary looks at it.
        """
        return self._clock.ratio

    @boundary_ratio.setter
    def boundary_ratio(self, ratio: float | None) -> None:
        self._clock.ratio = ratio

    @property
    def choice(self) -> Choice | None:
        """What is wanted for the generations to come, in place of the plan's settings.

        Only the hooked loop decides by generation.
        """
        return self._clock.choice

    @choice.setter
    def choice(self, choice: Choice | None) -> None:
        if choice is not None and not isinstance(choice, Choice):
            raise ConfigError(f"a choice is a Choice, such as Choice.of(plan), not {choice!r}")
        if choice is not None and self.execution != "loop":
            raise ConfigError(
                f"execution {self.execution!r} caches every request in the same way; only 'loop' "
                "lets a request choose its settings"
            )
        self._clock.choice = choice

    def stepwise(
        self, total: int, timesteps: torch.Tensor | None = None, *, name: str = ""
    ) -> Stepwise:
        """Begin a generation whose steps the caller counts: for engines that run step by step.

        Several may be under way, each with steps of its own; ``with stepwise.step():`` goes around
        the forwards of one. What else calls the transformers is no part of them.

        Args:
            total: the steps that it executes.
            timesteps: theirs ``[total]``, where a boundary divides the steps.
            name: whose it is, for `history`.

        Raises:
            ValueError: the number is not a whole number from 1 on.
            CacheRuntimeError: the handle was disabled.
        """
        if not self.enabled:
            raise CacheRuntimeError("caching is off: this handle was disabled")
        if not isinstance(total, int) or total < 1:
            raise ValueError(f"total must be a whole number from 1 on, not {total!r}")
        return self._clock.begin(total, timesteps, name)

    @contextmanager
    def request(self, name: str) -> Iterator[None]:
        """Whatever runs here belongs to one request: for loops that nothing else tells apart.

        The same name goes on with the same request, so that a loop may enter it for each step.

        Args:
            name: any name; `history` shows it.
        """
        try:
            with within(name):
                yield
        except BaseException:
            self._clock.end_request(name, "its request raised")
            raise

    def finish(self, why: str = "its call ended") -> None:
        """What this thread has begun is over, however far it came: every cached tensor goes.

        For engines that know when a call has ended or raised; with pipelines of diffusers this
        happens by itself.

        Args:
            why: what `stats` says of its end.
        """
        self._clock.end_request(None, why)

    def release(self, request: str | None = None) -> None:
        """Free what is cached, now. What goes on afterwards begins with a computed step.

        Under `native` execution caches go when their generation ends.

        Args:
            request: only what belongs to the request of this name.
        """
        self._clock.release(request)

    @property
    def history(self) -> tuple[Stats, ...]:
        """What the last generations did (chunks, stages, requests), the newest last."""
        return tuple(self.stats_of(item) for item in self._clock.history.shown)

    def stats(self) -> Stats:
        """What the last generation did, by transformer, block list and guidance branch.

        That is the last one which has ended, or whose end nobody can tell.
        """
        generation = self._clock.history.latest
        if generation is None:
            nothing = "no generation has run since caching was enabled"
            return Stats(self.plan.spec.name, self.execution, None, (), (nothing, *self._changed()))
        return self.stats_of(generation)

    def stats_of(self, generation: Generation) -> Stats:
        """What one generation did."""
        name = self.plan.spec.name
        branches = self._execution.branch_stats(generation)
        warnings = [
            *warnings_about(branches),
            *advice_of(self.plan, generation, branches),
            *self._execution.remarks(generation),
        ]
        ran = {item.transformer for item in branches}
        for transformer in self.plan.transformers:
            expected = generation.shares.get(transformer.path)
            if transformer.path not in ran and expected != 0:
                warnings.append(
                    f"{transformer.path} ran no cached forward; if the pipeline called it, "
                    "something replaced its forward after caching was enabled"
                )
        if generation is self._clock.history.latest:
            warnings += self._changed()
        return Stats(
            name,
            self.execution,
            generation.total,
            branches,
            tuple(dict.fromkeys(warnings)),
            generation.what,
            generation.ended,
        )

    def _changed(self) -> list[str]:
        """What has been put in the place of something that is cached."""
        if not self.enabled:
            return []
        found = [*changes_of(self.plan), *displaced(self._patches)]
        if not found and self._clock.unseen:
            found.append(
                "the scheduler has stepped since, and no forward of a cached transformer was seen; "
                "if the pipeline called one, something replaced its forward"
            )
        return found

    def explain(self, num_inference_steps: int | None = None) -> str:
        """What is cached and how, and where each setting came from.

        Args:
            num_inference_steps: for a generation of so many steps; default: the last one.
        """
        latest = self._clock.history.latest
        steps = num_inference_steps or (latest.total if latest is not None else None)
        return self.plan.describe(steps)

    def disable(self) -> None:
        """Switch caching off and restore every attribute. Calling it again does nothing."""
        with self._lock:
            self._undo()

    def _undo(self) -> None:
        if not self.enabled:
            return
        self.enabled = False
        self._clock.remove()
        for patch in reversed(self._patches):
            patch.remove()
        self._patches = []
        self._execution.remove()
        for name, value in self._flags.items():
            if value is not _ABSENT:
                setattr(self.plan.pipeline, name, value)
            elif name in vars(self.plan.pipeline):
                delattr(self.plan.pipeline, name)
        self._flags = {}
        for transformer in self.plan.transformers:
            if not transformer.gone:
                CACHED.pop(transformer.module, None)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.disable()

    def __repr__(self) -> str:
        state = "on" if self.enabled else "off"
        return f"<cachedit-yaml handle: {self.plan.spec.name}, {self.execution}, {state}>"
