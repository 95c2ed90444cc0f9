"""A model of somebody's own, as a module that only its user knows: its names are no usual ones."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import nn


class ClipBlock(nn.Module):
    """A block of a clip's tokens, which looks at a text."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.look = nn.MultiheadAttention(width, 2, batch_first=True)
        self.think = nn.Linear(width, width)

    def forward(self, clip: torch.Tensor, words: torch.Tensor, when: torch.Tensor) -> torch.Tensor:
        """``[b x s x d]``, ``[b x t x d]`` and ``[b x d]`` to ``[b x s x d]``."""
        clip = clip + 0.1 * self.look(clip, words, words, need_weights=False)[0]
        return clip + 0.1 * torch.tanh(self.think(clip) + when[:, None])


class ClipDenoiser(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A transformer whose list, blocks' arguments and timestep have names of their own."""

    @register_to_config
    def __init__(self, width: int = 16, num_layers: int = 5) -> None:
        super().__init__()
        self.clock = nn.Linear(1, width)
        self.stack = nn.ModuleList(ClipBlock(width) for _ in range(num_layers))
        self.out = nn.Linear(width, width)

    def forward(self, noisy: torch.Tensor, level: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """``[b x s x d]``, ``[b]`` and ``[b x t x d]`` to ``[b x s x d]``."""
        when = self.clock(level[:, None] / 1000)
        for block in self.stack:
            noisy = block(noisy, text, when)
        return self.out(noisy)


class ClipPipeline(DiffusionPipeline):  # type: ignore[misc]
    """Text to a clip's latents."""

    def __init__(self, denoiser: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(denoiser=denoiser, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self, text: torch.Tensor, num_inference_steps: int = 8, generator: Any = None
    ) -> torch.Tensor:
        """``[1 x t x d]`` to ``[1 x 6 x d]``."""
        clip = torch.randn(1, 6, text.shape[-1], generator=generator)
        self.scheduler.set_timesteps(num_inference_steps)
        for t in self.scheduler.timesteps:
            output = self.denoiser(clip, t.expand(1), text)
            clip = self.scheduler.step(output, t, clip, return_dict=False)[0]
        return clip


def make() -> ClipPipeline:
    """A small one."""
    torch.manual_seed(0)
    return ClipPipeline(ClipDenoiser().eval(), FlowMatchEulerDiscreteScheduler())
