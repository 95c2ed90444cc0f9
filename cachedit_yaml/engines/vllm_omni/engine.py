"""vLLM-Omni, as the rest of the package knows it."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Final

from cachedit_yaml.engines.protocol import Engine, Plugin

if TYPE_CHECKING:
    from cachedit_yaml.registry.matching import Match


class VllmOmni(Engine):
    """An engine with pipelines of its own, each with transformers of its own."""

    name = "vllm_omni"
    title = "vLLM-Omni"
    packages = ("vllm_omni",)
    distributions = ("vllm-omni", "vllm")
    tested = ("0.30.0",)
    loggers = ("vllm", "vllm_omni")
    class_index = "diffusion/registry.py"
    class_sources = ("diffusion/models",)
    plugin = Plugin(("vllm_omni.general_plugins", "vllm_omni.platform_plugins"), "VLLM_PLUGINS")
    configs = "a vLLM-Omni deploy YAML or `--cache-config` JSON"
    by_hand = "vLLM-Omni's own"

    def snippet(self, model: str, adapter: str | None, match: Match | None) -> str:
        """A command line."""
        config = json.dumps({"adapter": adapter} if adapter else {})
        return (
            f"vllm-omni serve {shlex.quote(model)} --omni --cache-backend cache_dit \\\n"
            f"    --cache-config '{config}' --enable-cache-dit-summary"
        )

    def why_not(self, match: Match, pipeline: str) -> str | None:
        """An adapter for diffusers' class of the same name was not tried on this engine's."""
        from cachedit_yaml.engines.vllm_omni.enabler import is_ours

        if is_ours(match.entry):
            return None
        return (
            f"no adapter for vLLM-Omni's {pipeline}; the engine's own code serves it, "
            f"unless cache_config names one: adapter: {match.entry.label}"
        )


ENGINE: Final = VllmOmni()
