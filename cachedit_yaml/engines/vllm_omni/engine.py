"""vLLM-Omni, as the rest of the package knows it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final

from cachedit_yaml.engines.protocol import Engine, Plugin

if TYPE_CHECKING:
    from cachedit_yaml.registry.matching import Match


_ROWS: Final = "each request has a cache of its own, and decides for its rows of a shared forward"
_EACH: Final = "each request has a cache of its own, in one forward a request"
#: What a cache does under step execution, by the pipeline classes that have it.
STEP_EXECUTION: Final[Mapping[str, str]] = {
    "QwenImagePipeline": _ROWS,
    "QwenImageDMD2Pipeline": f"{_ROWS}; without step execution it does not run at all",
    "BagelPipeline": _EACH,
    "LancePipeline": _EACH,
    "HunyuanImage3Pipeline": (
        f"{_EACH}; with a cache or without, its layers take the position embedding of the prompt "
        "that came last, so prompts of different lengths have to run one at a time "
        "(max_num_seqs: 1)"
    ),
    "HeliosPipeline": "each chunk, and each resolution of a pyramid, is a generation of its own",
    "MiniMaxH3Pipeline": (
        f"{_EACH}; its pipeline refuses quality: high there; tried without its text encoder and "
        "its autoencoders, which are Python of its checkpoint"
    ),
    "LingBotWorldCausalDMDPipeline": "none: the engine switches every cache back end off for it",
    "OmniVoicePipeline": "none: its adapter refuses",
}


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
    list_makers: ClassVar[Mapping[str, int]] = {"make_layers": 1}
    plugin = Plugin(("vllm_omni.general_plugins", "vllm_omni.platform_plugins"), "VLLM_PLUGINS")
    configs = "a vLLM-Omni deploy YAML or `--cache-config` JSON"
    by_hand = "vLLM-Omni's own"

    def snippet(self, model: str, adapter: str | None, match: Match | None) -> str:
        """A command line."""
        config = json.dumps({"adapter": adapter} if adapter else {})
        return (
            f"vllm-omni serve {shlex.quote(model)} --omni --cache-backend cache_dit \\\n"
            f"    --cache-config {shlex.quote(config)} --enable-cache-dit-summary"
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

    def modes(self, pipeline: str) -> str:
        """Step execution, which the engine has for some of its pipelines."""
        none = "the engine has none for this pipeline"
        return f"step execution: {STEP_EXECUTION.get(pipeline, none)}"


ENGINE: Final = VllmOmni()
