"""A pipeline with its real weights, in the form that the proofs take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.check import Checked
from cachedit_yaml.probe.pipelines import quiet, tensor_of
from cachedit_yaml.probe.prove import prove
from cachedit_yaml.probe.recipe import PLAIN, Recipe
from cachedit_yaml.runtime.handle import Handle


class Local:
    """A live pipeline and one call of it.

    Args:
        spec: its adapter.
        pipeline: the pipeline.
        arguments: of the call, generators left out.
        seeds: one for each picture; empty where the call takes no generator.
    """

    def __init__(
        self, spec: AdapterSpec, pipeline: Any, arguments: Mapping[str, Any], seeds: list[int]
    ) -> None:
        self.spec = spec
        self.target = pipeline
        self.arguments = dict(arguments)
        self.seeds = seeds
        name = type(pipeline).__name__
        self.recipe = Recipe(name, None, {}, {}, {}, {}, {PLAIN: {}}, "", None, ())

    def begin(self, handle: Handle, steps: int = 0) -> None:
        """Its scheduler tells everything."""

    @torch.no_grad()
    def run(self, case: str = PLAIN, steps: int = 0, **more: Any) -> torch.Tensor:
        """Run the call from the same seeds; its pictures as one tensor."""
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in self.seeds]
        given = {"generator": generators} if generators else {}
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(0)
            return tensor_of(self.target(**{**self.arguments, **given, **more}))


def check_local(local: Local) -> Checked:
    """Prove one call of a pipeline with its real weights."""
    if callable(getattr(local.target, "set_progress_bar_config", None)):
        local.target.set_progress_bar_config(disable=True)
    proofs = prove(local, PLAIN)
    failed = any(item.verdict == "failed" for item in proofs)
    name = local.recipe.pipeline
    return Checked(
        local.spec.name, name, None, PLAIN, "failed" if failed else "proved", proofs=tuple(proofs)
    )
