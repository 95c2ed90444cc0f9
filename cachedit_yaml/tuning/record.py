"""Collects the forwards of a traced call, and what its scheduler is given, into units."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from cachedit_yaml.api import compile_adapter
from cachedit_yaml.compiler.plan import Plan
from cachedit_yaml.generating.samples import Array
from cachedit_yaml.runtime.execution import start
from cachedit_yaml.runtime.generation import Generation
from cachedit_yaml.runtime.patching import Patch
from cachedit_yaml.tuning.residuals import REACH, RINGS, Ring
from cachedit_yaml.tuning.sampler import guidance_factors, step_weights
from cachedit_yaml.tuning.trace import Forward, TraceExecution, TraceRunner
from cachedit_yaml.tuning.units import Unit, difference_table, error_table


@dataclass
class _Step:
    """What a generation did between two calls of its scheduler."""

    forwards: list[Forward]
    factors: list[list[float]] | None = None
    samples: int = 1
    scale: float = 1.0


@dataclass
class _Part:
    """One generation of a call."""

    steps: list[_Step] = field(default_factory=list)
    scheduler: Any = None
    timesteps: list[Any] = field(default_factory=list)
    last: Any = None


class _StepHook(Patch):
    """Stands in for ``scheduler.step``: what it is given, and the scheduler as it was before."""

    before: Callable[[Any], None]
    after: Callable[..., None]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.active:
            return self.inner(*args, **kwargs)
        self.before(self.owner)
        names = ("model_output", "timestep", "sample")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        result = self.inner(*args, **kwargs)
        self.after(given, result)
        return result


class Recorder:
    """Collects the forwards of one call.

    Attributes:
        notes: what could not be told, for people.
        final: the latents after the last step, of any shape; None where nobody told.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[Any, _Part]] = []
        self.notes: list[str] = []
        self.final: torch.Tensor | None = None

    def forward(self, found: Forward, generation: Generation) -> None:
        """A forward has run."""
        if not self._parts or self._parts[-1][0] is not generation:
            self._parts.append((generation, _Part()))
        part = self._parts[-1][1]
        last = part.steps[-1] if part.steps else None
        if last is None or last.factors is not None or last.forwards[-1].step != found.step:
            part.steps.append(_Step([]))
        part.steps[-1].forwards.append(found)

    def before(self, scheduler: Any) -> None:
        """A scheduler is about to step."""
        part = self._parts[-1][1] if self._parts else None
        if part is not None and not part.timesteps:
            part.scheduler = copy.deepcopy(scheduler)

    def after(self, given: dict[str, Any], result: Any) -> None:
        """It has."""
        new = result[0] if isinstance(result, tuple) else getattr(result, "prev_sample", None)
        self.final = new if isinstance(new, torch.Tensor) else None
        if not self._parts or not self._parts[-1][1].steps:
            return
        part = self._parts[-1][1]
        step = part.steps[-1]
        part.timesteps.append(given.get("timestep"))
        part.last = given
        prediction, sample = given.get("model_output"), given.get("sample")
        if step.factors is not None or not isinstance(prediction, torch.Tensor):
            return
        fit = guidance_factors([item.output for item in step.forwards], prediction)
        if fit is not None:
            step.samples, step.factors = fit
        if isinstance(new, torch.Tensor) and isinstance(sample, torch.Tensor):
            size = float(prediction.float().norm())
            step.scale = float((new.float() - sample.float()).norm()) / max(size, 1e-30)
        for item in step.forwards:
            item.output = item.output[:0]  # fitted, and large

    def units(self) -> list[Unit]:
        """What was collected."""
        return [unit for _, part in self._parts for unit in self._units(part)]

    def _units(self, part: _Part) -> Iterator[Unit]:
        scales = self._scales(part)
        rows: dict[tuple[str, str], list[tuple[int, Forward, list[float] | None, int, float]]] = {}
        for step, scale in zip(part.steps, scales, strict=True):
            for index, item in enumerate(step.forwards):
                factors = None if step.factors is None else step.factors[index]
                row = item.step, item, factors, step.samples, scale
                rows.setdefault((item.transformer, item.branch), []).append(row)
        for (transformer, branch), own in rows.items():
            share = 1 + max(
                row[0] for key, found in rows.items() if key[0] == transformer for row in found
            )
            forwards = [row[1] for row in own]
            reach = REACH + 1
            errors: dict[tuple[int, int], Array] = {}
            for fn, bn in sorted({key[:2] for item in forwards for key in item.errors}):
                tables = [error_table(*row[1:], fn, bn, reach) for row in own]
                width = max((item.shape[1:] for item in tables if item is not None), default=(1, 1))
                empty = np.full((reach, *width), np.nan, np.float32)
                empty[0] = 0
                errors[fn, bn] = np.stack([empty if item is None else item for item in tables])
            differences = {}
            for fn in sorted({key[0] for item in forwards for key in item.differences}):
                differences[fn] = np.stack([difference_table(item, fn, reach) for item in forwards])
            yield Unit(
                transformer,
                branch,
                share,
                forwards[0].blocks,
                forwards[0].lists,
                forwards[0].leaders,
                [row[0] for row in own],
                differences,
                errors,
            )

    def _scales(self, part: _Part) -> list[float]:
        """The weight of each step's prediction in the final latents."""
        if any(step.factors is None for step in part.steps):
            self.notes.append("guidance is no sum of forwards: they count alike")
        found = None
        if part.scheduler is not None and len(part.timesteps) == len(part.steps):
            more = {
                k: v
                for k, v in part.last.items()
                if k not in ("model_output", "timestep", "sample", "return_dict", "generator")
            }
            found = step_weights(
                part.scheduler, part.timesteps, part.last["sample"], part.last["model_output"], more
            )
        if found is None:
            self.notes.append("the scheduler is not linear: steps weigh by how far they go")
            return [step.scale for step in part.steps]
        return found


@contextmanager
def tracing(pipeline: Any, adapter: Any, ring: Ring = RINGS[0]) -> Iterator[Recorder]:
    """Trace what a pipeline generates meanwhile; it is as before afterwards.

    Args:
        pipeline: a live pipeline.
        adapter: its adapter.
        ring: where older residuals lie.

    Raises:
        CacheditYamlError: the adapter does not fit; see :mod:`cachedit_yaml.errors`.
    """
    plain = {"scm": None, "calibrator": None, "Fn_compute_blocks": 1, "Bn_compute_blocks": 0}
    plan = compile_adapter(adapter, pipeline, cache_config=plain)
    recorder = Recorder()

    def execution(*given: Any) -> TraceExecution:
        made = TraceExecution(*given)
        for runner in made.runners:
            assert isinstance(runner, TraceRunner)
            runner.tell, runner.ring = recorder.forward, ring
        return made

    with start(plan, execution) as handle, watching(plan, recorder):
        yield recorder
        recorder.notes += handle.stats().warnings


@contextmanager
def watching(plan: Plan, recorder: Recorder) -> Iterator[None]:
    """Tell a recorder what the schedulers of a plan are given."""
    hooks = []
    for scheduler in map(plan.at, plan.schedulers):
        if hasattr(scheduler, "step"):
            hook = _StepHook(scheduler, "step")
            hook.before, hook.after = recorder.before, recorder.after
            hooks.append(hook)
            hook.install()
    try:
        yield
    finally:
        for hook in reversed(hooks):
            hook.remove()
