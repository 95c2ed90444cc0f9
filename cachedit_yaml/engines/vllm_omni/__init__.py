"""vLLM-Omni: ``cache_config={"adapter": ..., "profile": ..., ...}`` in the engine's own config."""

from __future__ import annotations

from cachedit_yaml.engines.vllm_omni.plugin import register, watch

__all__ = ["register", "watch"]
