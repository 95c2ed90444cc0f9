"""Which timesteps a loop executes: read off its scheduler, and the pipeline that loops."""

from __future__ import annotations

from typing import Any

import torch

from cachedit_yaml.runtime.runs import Runs
from cachedit_yaml.runtime.timesteps import Moment, Reading


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
    def steps(self) -> int:
        """How many timesteps the scheduler has."""
        timesteps = getattr(self._scheduler, "timesteps", None)
        return 0 if timesteps is None else len(timesteps)

    @property
    def cut_unknown(self) -> bool:
        """Whether nobody says where among the scheduler's timesteps the loop begins."""
        return getattr(self._scheduler, "begin_index", None) is None and self.looped is None

    @property
    def replaced(self) -> bool:
        """Whether the scheduler has other timesteps than when the last generation began."""
        return getattr(self._scheduler, "timesteps", None) is not self._seen

    def put_in(self, reading: Reading) -> torch.Tensor | None:
        """The timesteps that a pipeline has put into its scheduler without ``set_timesteps``.

        Args:
            reading: what the first forward carries: those of another schedule do not begin with it.
        """
        first = reading.moment if self.replaced else None
        if first is None:
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
                begin = self._begins_at(values, first.largest)
            return values[begin or 0 :]
        # Where a schedule ends with its last timestep, the loop ends before it.
        ends = looped is not None and begin + looped == len(values) - 1
        return values[begin:-1] if ends else values[begin:]

    def _begins_at(self, values: torch.Tensor, first: float) -> int:
        """The index of the timestep that the first forward carries; 0 where it is none of them.

        Loops may give the transformer a share of all timesteps, so that 1.0 is the first of a
        thousand; a schedule may end at 1.0, too. Then the loop that has more steps is meant.
        """
        config = getattr(self._scheduler, "config", None) or {}
        scaled = first * float(config.get("num_train_timesteps", 1000))
        near = torch.isclose(values.double(), torch.tensor(scaled, dtype=torch.float64))
        found = ((values == first) | near.to(values.device)).nonzero()
        return int(found[0]) if len(found) else 0
