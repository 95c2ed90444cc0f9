"""Twins of one transformer that are measured against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks import subjects
from benchmarks.measure import ClockName, Contender, Timings, interleave
from benchmarks.subjects import LISTS, Cached


class Contest:
    """A transformer as it is, under cache-dit, and under cachedit-yaml.

    Args:
        model: the transformer.
        arguments: those of the forwards of one generation, step by step.
        values: the cache's settings.
        lists: the block lists and their patterns.
        more: other transformers that take part uncached, by name.
        together: one decision a forward for all lists, beside cache-dit's own adapter of the class.

    Attributes:
        served: steps that are to be served from the cache, by the mask.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        arguments: list[dict[str, Any]],
        values: Mapping[str, Any],
        *,
        lists: Mapping[str, str] = LISTS,
        more: Mapping[str, torch.nn.Module] | None = None,
        together: bool = False,
    ) -> None:
        theirs, ours = subjects.twin(model), subjects.twin(model)
        self.arguments = arguments
        mask = values.get("steps_computation_mask") or []
        self.served = [step for step, computed in enumerate(mask) if not computed]
        self.models = {"uncached": model, **(more or {}), "cache-dit": theirs, "ours": ours}
        steps, adapter = len(arguments), subjects.own_adapter(lists, together=together)
        listed = None if together else lists
        self.cached: dict[str, Cached] = {
            "cache-dit": subjects.with_cache_dit(theirs, steps, values, listed),
            "ours": subjects.with_ours(ours, steps, values, adapter),
        }

    def run(
        self,
        series: int,
        *,
        clock: ClockName,
        device: str = "cpu",
        skip: int = 1,
        exact: bool = True,
        label: str = "",
    ) -> Timings:
        """Check once that everybody does what is claimed, then measure.

        Args:
            series: generations to measure.
            clock: which time counts.
            device: where the transformers are.
            skip: first steps of every generation that do not count.
            exact: whether outputs must agree to the bit.
            label: shown while it runs.

        Raises:
            RuntimeError: what ran is not what was to be measured.
        """
        with torch.no_grad():
            self._check(exact)
            timings = interleave(
                [self._contender(name) for name in self.models],
                series=series,
                steps=len(self.arguments),
                skip=skip,
                clock=clock,
                device=device,
                label=label,
            )
        for item in self.cached.values():
            item.off()
        return timings

    def _contender(self, name: str) -> Contender:
        run = partial(self._forward, name)
        cached = self.cached.get(name)
        return Contender(name, run) if cached is None else Contender(name, run, cached.refresh)

    def _forward(self, name: str, step: int) -> torch.Tensor:
        output = self.models[name](**self.arguments[step])
        tensor: torch.Tensor = output[0] if isinstance(output, tuple) else output
        return tensor

    def _check(self, exact: bool) -> None:
        for item in self.cached.values():
            item.refresh()
        for step in range(len(self.arguments)):
            outputs = {name: self._forward(name, step) for name in self.models}
            if not exact:
                continue
            if not torch.equal(outputs["cache-dit"], outputs["ours"]):
                raise RuntimeError(f"step {step}: cache-dit and cachedit-yaml disagree")
            if step not in self.served and not torch.equal(outputs["uncached"], outputs["ours"]):
                raise RuntimeError(f"step {step} was computed, but differs from the uncached one")
        for name, item in self.cached.items():
            for steps in item.hits():
                if sorted(steps) != self.served:
                    raise RuntimeError(f"{name} served steps {steps}, not {self.served}")


def mask_that_hits(steps: int) -> Sequence[int]:
    """The first step computed, all others served from the cache."""
    return [1] + [0] * (steps - 1)
