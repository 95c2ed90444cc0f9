"""The pipelines whose loops call the transformers of a plan: found, watched, and let go."""

from __future__ import annotations

from typing import Any

from cachedit_yaml.compiler.plan import Plan, TransformerPlan
from cachedit_yaml.runtime.callers import Caller, caller_of
from cachedit_yaml.runtime.calls import Calls
from cachedit_yaml.runtime.requests import current_request
from cachedit_yaml.runtime.schedulers import Schedulers


class Pipelines:
    """The pipeline for which caching was enabled, and those that share its transformers.

    Args:
        plan: where their schedulers are.
        schedulers: the schedulers that they step.
    """

    def __init__(self, plan: Plan, schedulers: Schedulers) -> None:
        self._plan = plan
        self._schedulers = schedulers
        self._leaves = [path.rpartition(".")[2] for path in plan.schedulers]
        self._calls = Calls(self._end_call)

    def install(self) -> None:
        """Hook the schedulers of the pipeline that is cached, and watch its calls."""
        for path in self._plan.schedulers:
            scheduler = self._plan.at(path)
            if scheduler is not None:
                self._schedulers.runs_of(scheduler)
                self._calls.watch(self._plan.looping(path))

    def remove(self) -> None:
        """Restore every pipeline and every scheduler."""
        self._calls.remove()
        self._schedulers.remove()

    def caller(self, transformer: TransformerPlan) -> Caller:
        """The loop that calls a transformer, and the scheduler that it steps."""
        if self._plan.pipeline is None:
            return Caller()
        caller = caller_of(transformer.module, transformer.scheduler.rpartition(".")[2])
        self._calls.watch(caller.pipeline)
        stepping = self._schedulers.stepping(caller.others)
        if stepping is not None:
            return caller._replace(scheduler=stepping)
        if caller.scheduler is None:
            return caller._replace(scheduler=self._plan.at(transformer.scheduler))
        return caller

    def _end_call(self, pipeline: Any, why: str) -> None:
        for leaf in self._leaves:
            scheduler = getattr(pipeline, leaf, None)
            if self._schedulers.knows(scheduler):
                self._schedulers.runs_of(scheduler).end(current_request(), why)
