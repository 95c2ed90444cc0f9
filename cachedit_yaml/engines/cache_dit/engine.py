"""cache-dit itself, as the rest of the package knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cachedit_yaml.engines.protocol import Config, Engine

if TYPE_CHECKING:
    from cachedit_yaml.registry.matching import Match


class CacheDit(Engine):
    """cache-dit's own functions, which find the adapters in its own table."""

    name = "cache_dit"
    title = "cache-dit"
    packages = ("cache_dit",)
    distributions = ("cache-dit",)
    supported = ">=1.5.0,<1.6"
    tested = ("1.5.0", "1.5.1", "1.5.3")
    needed = True
    configs = "a cache-dit `load_configs` file"

    def snippet(self, model: str, adapter: str | None, match: Match | None) -> str:
        """Python; cache-dit finds the adapter by the pipeline's class."""
        mine = match is not None and match.entry.label != adapter
        return (
            "import cache_dit, cachedit_yaml, diffusers\n\n"
            f"pipe = diffusers.DiffusionPipeline.from_pretrained({model!r})\n"
            f"cachedit_yaml.install({f'adapters=[{adapter!r}]' if mine else ''})\n"
            "cache_dit.enable_cache(pipe)"
        )

    def read_config(self, source: object, engine: str | None = None) -> Config | None:
        """A file with sections of cache-dit, alone or beside an adapter."""
        from cachedit_yaml.engines.cache_dit.configs import read_config

        return read_config(source, engine)


ENGINE: Final = CacheDit()
