"""A pipeline that vLLM-Omni does not know: its transformer adds something after every block."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from vllm_omni.diffusion.data import DiffusionOutput


class OutsideBlock(nn.Module):
    """A block with a name for its input that cache-dit does not know."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return tokens + torch.tanh(self.inner(tokens + time))


class OutsideTransformer(nn.Module):
    """Its loop does more than call the block."""

    def __init__(self, width: int = 16, layers: int = 6) -> None:
        super().__init__()
        self.stem = nn.Linear(3, width)
        self.stack = nn.ModuleList([OutsideBlock(width) for _ in range(layers)])
        self.hints = nn.Parameter(torch.empty(layers, width))
        self.head = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        tokens = self.stem(x)
        for index, block in enumerate(self.stack):
            tokens = block(tokens, sigma.reshape(-1, 1, 1))
            tokens = tokens + 0.1 * self.hints[index]
        return self.head(tokens)


class OutsideVae(nn.Module):
    """Pixels are latents."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents


class OutsidePipeline(nn.Module):
    """No scheduler, no text, two forwards a step."""

    def __init__(self, *, od_config: Any, prefix: str = "") -> None:
        super().__init__()
        self.denoiser = OutsideTransformer()
        self.vae = OutsideVae()
        self.weights_sources: tuple[Any, ...] = ()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(0, 0.2, generator=generator)

    def load_weights(self, weights: Any) -> set[str]:
        return {name for name, _ in self.named_parameters()}

    def forward(self, req: Any) -> DiffusionOutput:
        sampling = req.sampling_params
        steps = sampling.num_inference_steps or 10
        generator = torch.Generator().manual_seed(sampling.seed or 0)
        x = torch.randn(1, 64, 3, generator=generator)
        with torch.no_grad():
            for step in range(steps):
                sigma = torch.full((1,), 1 - step / steps)
                cond = self.denoiser(x, sigma)
                uncond = self.denoiser(0.9 * x, sigma)
                x = x - (uncond + 1.5 * (cond - uncond)) / steps
        pixels = self.vae.decode(x).sigmoid().reshape(1, 8, 8, 3).permute(0, 3, 1, 2)
        return DiffusionOutput(output=pixels)


def post_process(od_config: Any) -> Any:
    """From numbers to pictures."""
    from diffusers.image_processor import VaeImageProcessor

    processor = VaeImageProcessor()
    return lambda output, **_: processor.postprocess(output, do_denormalize=[False])
