"""vLLM-Omni, as the rest of the package knows it."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Final

from cachedit_yaml.engines.protocol import Engine, Plugin

if TYPE_CHECKING:
    from cachedit_yaml.engines.configs import ConfigFiles
    from cachedit_yaml.language.spec import AdapterSpec
    from cachedit_yaml.probe.prove import Subject
    from cachedit_yaml.probe.recipe import Recipe
    from cachedit_yaml.probe.rival import Rival
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
        from cachedit_yaml.engines.vllm_omni.own import is_ours

        if is_ours(match.entry):
            return None
        return (
            f"no adapter for vLLM-Omni's {pipeline}; the engine's own code serves it, "
            f"unless cache_config names one: adapter: {match.entry.label}"
        )

    def files(self) -> ConfigFiles:
        """Those of :mod:`cachedit_yaml.engines.vllm_omni.files`."""
        from cachedit_yaml.engines.vllm_omni.files import FILES

        return FILES

    # --- small models ---

    def build(self, spec: AdapterSpec, recipe: Recipe, *, seed: int = 0) -> Subject:
        """A pipeline in the engine's own worker."""
        from cachedit_yaml.engines.vllm_omni.probe import build

        return build(spec, recipe, seed=seed)

    def close(self) -> None:
        """Shut down the worker."""
        from cachedit_yaml.engines.vllm_omni.probe import close

        close()

    def compare(self, spec: AdapterSpec, recipe: Recipe) -> Rival | None:
        """The engine's own cache code knows pipelines only."""
        from cachedit_yaml.engines.vllm_omni.against import against_own_code

        return against_own_code(spec, recipe) if recipe.pipeline else None


ENGINE: Final = VllmOmni()
