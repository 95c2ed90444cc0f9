"""SGLang diffusion: the adapters in its workers, for its own transformers and for diffusers'."""

from __future__ import annotations

from cachedit_yaml.engines.sglang.plugin import register

__all__ = ["register"]
