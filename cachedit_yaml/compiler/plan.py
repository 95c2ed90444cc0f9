"""What the compiler yields: every path resolved against one live pipeline.

A plan is data. Nothing has been touched when it exists, and enabling takes nothing else. It holds
no module alive: a transformer that its pipeline lets go is gone.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from cachedit_yaml.compiler.paths import MISSING, follow
from cachedit_yaml.compiler.settings import Layers
from cachedit_yaml.compiler.signature import Binding, Pattern
from cachedit_yaml.language.spec import AdapterSpec, Denoising, Returns, StepSplit

if TYPE_CHECKING:
    import cache_dit

    from cachedit_yaml.compiler.parallel import Ranks


@dataclass(frozen=True, eq=False)
class ListPlan:
    """One block list.

    Attributes:
        path: attribute path from the transformer.
        where: transformer and path, for messages.
        held: the real blocks, in their order, and last the ``ModuleList`` that holds them.
        pattern: what a block takes and returns.
        binding: where a call carries it.
        layers: its settings, by precedence.
        returns: where a block's output holds what; None for a tensor or a pair.
    """

    path: str
    where: str
    held: tuple[weakref.ref[torch.nn.Module], ...]
    pattern: Pattern
    binding: Binding
    layers: Layers
    returns: Returns | None = None

    @property
    def follows(self) -> str | None:
        """Path of the list that decides for this one; None where it decides itself."""
        return self.layers.follows

    @property
    def blocks(self) -> tuple[torch.nn.Module, ...]:
        """The blocks, in their order."""
        return tuple(cast(torch.nn.Module, item()) for item in self.held[:-1])

    @property
    def holder(self) -> torch.nn.ModuleList:
        """The ``ModuleList`` that holds them."""
        return cast(torch.nn.ModuleList, self.held[-1]())


@dataclass(frozen=True, eq=False)
class TransformerPlan:
    """One transformer.

    Attributes:
        path: attribute path from the pipeline.
        held: the transformer itself.
        lists: its block lists.
        variant: which layout was taken, for people.
        timestep: name of the argument of forward that carries the timestep.
        denoising: which calls are denoising steps; None for all.
        scheduler: attribute path from the pipeline to the scheduler of its steps.
    """

    path: str
    held: weakref.ref[torch.nn.Module]
    lists: tuple[ListPlan, ...]
    variant: str
    timestep: str
    denoising: Denoising | None
    scheduler: str = "scheduler"

    @property
    def module(self) -> torch.nn.Module:
        """The transformer itself; None once it is gone."""
        return cast(torch.nn.Module, self.held())

    @property
    def gone(self) -> bool:
        """Whether the pipeline has let the transformer go."""
        return self.held() is None


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that enabling needs.

    Attributes:
        spec: the adapter.
        pipeline: the pipeline, or None where only a transformer is served.
        transformers: those that are there.
        absent: optional transformers that are not.
        split: how the steps divide.
        separate_cfg: from the adapter's guidance: two forwards a step (True), one (False), or
            None to observe.
        flags: attributes to set on the pipeline while caching is on.
        profile: the profile that was chosen.
        notes: remarks for people, such as what overrides what.
        together: the ranks that run each forward together, as an engine says; None where nobody
            says so.
        alone: the transformer, where no pipeline holds it.
    """

    spec: AdapterSpec
    pipeline: Any
    transformers: tuple[TransformerPlan, ...]
    absent: tuple[str, ...]
    split: StepSplit | None
    separate_cfg: bool | None
    flags: Mapping[str, str | int | float | bool]
    profile: str | None
    notes: tuple[str, ...] = ()
    together: Ranks | None = None
    alone: torch.nn.Module | None = None

    @property
    def block_lists(self) -> Iterator[tuple[TransformerPlan, ListPlan]]:
        """Every block list, with its transformer."""
        return ((item, blocks) for item in self.transformers for blocks in item.lists)

    @property
    def scheduler(self) -> Any:
        """The scheduler of the denoising steps; None where there is none.

        That of the first transformer, where they have schedulers of their own.
        """
        path = self.transformers[0].scheduler if self.transformers else "scheduler"
        return self.at(path)

    @property
    def schedulers(self) -> tuple[str, ...]:
        """Attribute paths to the schedulers, each once."""
        return tuple(dict.fromkeys(item.scheduler for item in self.transformers))

    def at(self, path: str) -> Any:
        """What an attribute path from the pipeline leads to; None where there is nothing."""
        found = follow(self.pipeline, path)
        return None if found is MISSING else found

    @property
    def ratio(self) -> float | None:
        """The boundary ratio that the pipeline holds now; None where the split has no boundary."""
        return self.ratio_in(self.pipeline)

    def ratio_in(self, pipeline: Any) -> float | None:
        """The boundary ratio that a pipeline of the same kind holds now."""
        boundary = self.split.boundary if self.split is not None else None
        if boundary is None:
            return None
        value: Any = boundary.ratio
        if isinstance(value, str):
            value = follow(pipeline, value.removeprefix("pipeline."))
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float(value) if number else boundary.default

    def looping(self, scheduler: str) -> Any:
        """The pipeline that loops over the steps: the one that holds the scheduler."""
        holder = scheduler.rpartition(".")[0]
        return follow(self.pipeline, holder) if holder else self.pipeline

    def block_adapters(
        self, num_inference_steps: int | None = None
    ) -> list[cache_dit.BlockAdapter]:
        """The plan as real ``cache_dit.BlockAdapter`` objects, one for each transformer."""
        from cachedit_yaml.compiler.adapters import block_adapters

        return block_adapters(self, num_inference_steps)

    def describe(self, num_inference_steps: int | None = None) -> str:
        """The plan as text: lists, patterns, and where each setting came from."""
        from cachedit_yaml.compiler.describe import describe

        return describe(self, num_inference_steps)
