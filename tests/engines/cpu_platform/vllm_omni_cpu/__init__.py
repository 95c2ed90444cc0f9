"""A platform of vLLM-Omni for CPUs, for tests. Nothing here makes anything fast."""

from __future__ import annotations


def register() -> str:
    """Where the platform is; called by vLLM-Omni in every process."""
    return "vllm_omni_cpu.platform.CpuOmniPlatform"
