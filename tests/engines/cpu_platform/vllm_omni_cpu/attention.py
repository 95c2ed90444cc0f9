"""vLLM-Omni's attention through torch alone."""

from __future__ import annotations

from vllm_omni.diffusion.attention.backends.sdpa import SDPABackend, SDPAImpl

# As on a GPU, whatever the platform: it asks for a known accelerator. Set on the class itself,
# because some models take it beside the platform's backend.
SDPAImpl.forward = SDPAImpl.forward_cuda


class CpuAttentionBackend(SDPABackend):
    """The SDPA backend."""
