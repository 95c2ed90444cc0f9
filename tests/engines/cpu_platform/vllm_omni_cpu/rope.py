"""Wan's rotary embedding in plain torch, for the tables that the kernels of a GPU take too."""

from __future__ import annotations

from typing import Any

import torch
from vllm_omni.diffusion.layers.rope import RotaryEmbeddingWan

_for_every_head = RotaryEmbeddingWan.forward_native


def _forward(self: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    if cos.dim() == 2:  # [tokens x d]: the same for every head
        cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    return _for_every_head(self, x, cos, sin)


RotaryEmbeddingWan.forward_native = _forward
