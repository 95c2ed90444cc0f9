"""vLLM-Omni's attention through torch alone."""

from __future__ import annotations

from typing import Any

import torch
from vllm_omni.diffusion.attention.backends.sdpa import SDPABackend, SDPAImpl


class CpuAttentionBackend(SDPABackend):
    """The SDPA backend, which itself asks for a known accelerator."""

    @staticmethod
    def get_impl_cls() -> type[SDPAImpl]:
        return CpuAttention


class CpuAttention(SDPAImpl):
    """As on a GPU, whatever the platform."""

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_metadata: Any = None,
    ) -> torch.Tensor:
        return self.forward_cuda(query, key, value, attn_metadata)
