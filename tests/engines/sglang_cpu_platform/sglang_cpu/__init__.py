"""A platform of SGLang for CPUs without compiled kernels, for tests. Nothing here is fast."""

from __future__ import annotations


def activate() -> str:
    """Where the platform is; called by SGLang in every process."""
    return "sglang_cpu.platform.PlainCpuPlatform"
