"""vLLM-Omni's attention through torch alone."""

from __future__ import annotations

from vllm_omni.diffusion.attention.backends.sdpa import SDPABackend, SDPAImpl

# As on a GPU, whatever the platform; also for layers that take it without asking the platform.
SDPAImpl.forward = SDPAImpl.forward_cuda


class CpuAttentionBackend(SDPABackend):
    """The SDPA backend, which itself asks for a known accelerator."""
