"""A small model for every adapter that has a probe, and generations with it.

Nobody lists them here: what they are made of stands in the adapters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

import cachedit_yaml
from cachedit_yaml.engines.sglang.probe import Sgl, build
from cachedit_yaml.probe.recipe import GUIDED, PLAIN, Recipe, recipes

#: Steps of a generation in these tests.
STEPS = 8


@dataclass(frozen=True)
class Model:
    """What one probe describes.

    Attributes:
        spec: its adapter.
        recipe: the plain make.
    """

    spec: cachedit_yaml.AdapterSpec
    recipe: Recipe

    def build(self) -> torch.nn.Module:
        """Make one; all of them have the same weights."""
        made: torch.nn.Module = build(self.spec, self.recipe).target
        return made

    def lists(self, model: torch.nn.Module) -> dict[str, list[torch.nn.Module]]:
        """The block lists that the adapter finds on it, by name."""
        (plan,) = cachedit_yaml.compile_adapter(self.spec, model).transformers
        return {item.path: list(item.blocks) for item in plan.lists}

    def step(self, model: torch.nn.Module, step: int, steps: int, branch: int = 0) -> torch.Tensor:
        """One forward, as in one of so many steps of SGLang's denoising loop."""
        return Sgl(self.spec, self.recipe, model).step(step, steps, GUIDED, branch)

    def generate(
        self, model: torch.nn.Module, branches: int = 1, steps: int = STEPS
    ) -> torch.Tensor:
        """The outputs of a generation. Inputs differ between branches, timesteps between steps."""
        case = GUIDED if branches == 2 else PLAIN
        return Sgl(self.spec, self.recipe, model).run(case, steps)


#: The adapters as SGLang sees them, with their probes.
SHIPPED = {
    entry.name: entry.with_probe("sglang")
    for entry in cachedit_yaml.list_adapters()
    if entry.kind == "shipped" and "sglang" in entry.engines
}
#: By the name of the adapter.
MODELS = {
    name: Model(spec, next(recipes(spec)))
    for name, spec in SHIPPED.items()
    if spec.probe is not None and spec.probe.skip is None
}
