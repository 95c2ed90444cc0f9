"""SGLang diffusion, as the rest of the package knows it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from cachedit_yaml.engines.protocol import Engine, Plugin

if TYPE_CHECKING:
    from cachedit_yaml.registry.matching import Match
    from cachedit_yaml.rules.sources.code import Class
    from cachedit_yaml.rules.sources.reader import Reader
    from cachedit_yaml.rules.sources.values import Values


class SGLang(Engine):
    """An engine with transformers of its own, and a back end for diffusers' pipelines."""

    name = "sglang"
    title = "SGLang"
    packages = ("sglang",)
    distributions = ("sglang",)
    tested = ("0.5.23",)
    loggers = ("sglang",)
    class_index = "multimodal_gen/registry.py"
    class_sources = ("multimodal_gen/runtime",)  # beside it are tests, with classes of these names
    plugin = Plugin(("sglang.multimodal_gen.plugins",), "SGLANG_PLUGINS", empty_is_all=True)
    transformers_alone = True
    configs = "an SGLang cache config"
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

    def part(self, reader: Reader, pipeline: Class, path: str) -> Values:
        """A pipeline loads the modules that it names; what each is says the checkpoint."""
        from cachedit_yaml.engines.sglang.sources import part

        return part(pipeline, path)

    def parts(self, reader: Reader, pipeline: Class) -> Sequence[str]:
        """The modules that it names."""
        from cachedit_yaml.engines.sglang.sources import modules_of

        return sorted(modules_of(pipeline))

    def remark(self, match: Match) -> str:
        """Its own class is left to it where the adapter was made for diffusers'."""
        if self.name not in match.entry.engines and match.entry.kind == "shipped":
            return " of diffusers, for SGLang's diffusers back end; its own class is left to SGLang"
        return ""


ENGINE: Final = SGLang()
