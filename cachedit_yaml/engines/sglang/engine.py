"""SGLang diffusion, as the rest of the package knows it."""

from __future__ import annotations

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


class SGLang(Engine):
    """An engine with transformers of its own, and a back end for diffusers' pipelines."""

    name = "sglang"
    title = "SGLang"
    packages = ("sglang",)
    distributions = ("sglang",)
    tested = ("0.5.23",)
    loggers = ("sglang",)
    class_index = "multimodal_gen/registry.py"
    class_sources = ("multimodal_gen",)
    plugin = Plugin(("sglang.multimodal_gen.plugins",), "SGLANG_PLUGINS", empty_is_all=True)
    transformers_alone = True
    by_hand = "SGLang's own"

    def snippet(self, model: str, adapter: str | None, match: Match | None) -> str:
        """A command line for its own transformers, or for its diffusers back end."""
        command = f"sglang generate --model-path {shlex.quote(model)}"
        if adapter is None or match is None or self.name in match.entry.engines:
            given = match is not None and match.entry.label != adapter
            path = f"CACHEDIT_YAML_PATH={shlex.quote(adapter)} " if adapter and given else ""
            return (
                "# SGLang's own transformers find their adapters by class\n"
                f"{path}SGLANG_CACHE_DIT_ENABLED=true {command}"
            )
        file = shlex.quote(str(match.entry.path.resolve()))
        return f"{command} --backend diffusers \\\n    --cache-dit-config {file}"

    def remark(self, match: Match) -> str:
        """Its own class is left to it where the adapter was made for diffusers'."""
        if self.name not in match.entry.engines and match.entry.kind == "shipped":
            return " of diffusers, for SGLang's diffusers back end; its own class is left to SGLang"
        return ""

    def files(self) -> ConfigFiles:
        """Those of :mod:`cachedit_yaml.engines.sglang.files`."""
        from cachedit_yaml.engines.sglang.files import FILES

        return FILES

    # --- small models ---

    def build(self, spec: AdapterSpec, recipe: Recipe, *, seed: int = 0) -> Subject:
        """A transformer inside what the engine's worker sets up."""
        from cachedit_yaml.engines.sglang.probe import build

        return build(spec, recipe, seed=seed)

    def close(self) -> None:
        """End the engine's groups."""
        from cachedit_yaml.engines.sglang.probe import close

        close()

    def compare(self, spec: AdapterSpec, recipe: Recipe) -> Rival:
        """The engine's own cache code."""
        from cachedit_yaml.engines.sglang.against import against_own_code

        return against_own_code(spec, recipe)


ENGINE: Final = SGLang()
