"""A small model of one of SGLang's own transformer classes, and a generation with it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

#: Steps of a generation in these tests.
STEPS = 8
_DITS = "sglang.multimodal_gen.runtime.models.dits"
_CONFIGS = "sglang.multimodal_gen.configs.models.dits"


@dataclass(frozen=True)
class Model:
    """One transformer class.

    Attributes:
        module: where it is, below SGLang's models.
        name: the class.
        config: module and class of its config.
        arch: the config of a small one.
        lists: its block lists.
        inputs: what its forward takes, with the timestep.
    """

    module: str
    name: str
    config: tuple[str, str]
    arch: dict[str, Any]
    lists: tuple[str, ...]
    inputs: Callable[[torch.Tensor], dict[str, Any]]
    flags: dict[str, Any] = field(default_factory=dict)

    def build(self) -> torch.nn.Module:
        """Make one with seeded weights, in float32."""
        module, name = self.config
        config = getattr(importlib.import_module(f"{_CONFIGS}.{module}"), name)()
        config.update_model_arch(dict(self.arch))
        for key, value in self.flags.items():
            setattr(config, key, value)
        cls = getattr(importlib.import_module(f"{_DITS}.{self.module}"), self.name)
        model: torch.nn.Module = cls(config, {}).float().eval()
        torch.manual_seed(0)
        with torch.no_grad():
            for key, value in model.named_parameters():
                scale = 1.0 if value.ndim == 1 and "norm" in key and "weight" in key else 0.0
                value.copy_(torch.randn(value.shape) * 0.1 + scale)
        return model

    def blocks(self, model: torch.nn.Module) -> list[tuple[str, list[torch.nn.Module]]]:
        """Its block lists, by name."""
        return [(name, list(getattr(model, name))) for name in self.lists]

    def step(self, model: torch.nn.Module, timestep: float, branch: int = 1) -> torch.Tensor:
        """One forward, as SGLang's denoising loop does it."""
        from sglang.multimodal_gen.runtime.managers.forward_context import set_forward_context

        torch.manual_seed(branch)
        inputs = self.inputs(torch.tensor([timestep]))
        with torch.no_grad(), set_forward_context(current_timestep=0, attn_metadata=None):
            output = model(**inputs)
        return output if isinstance(output, torch.Tensor) else output[0]

    def generate(
        self, model: torch.nn.Module, branches: int = 1, steps: int = STEPS
    ) -> torch.Tensor:
        """The outputs of a generation. Inputs differ between branches, timesteps between steps."""
        outputs = [
            self.step(model, 1000.0 - 100 * step, branch)
            for step in range(steps)
            for branch in range(1, branches + 1)
        ]
        return torch.stack([output.clone() for output in outputs])


def rope(tokens: int, dims: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of random angles ``[tokens x dims]``."""
    angles = torch.rand(tokens, dims)
    return angles.cos(), angles.sin()


def randn(*shape: int) -> torch.Tensor:
    """Random numbers of a shape."""
    return torch.randn(*shape)
