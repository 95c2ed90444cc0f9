"""diffusers, as the rest of the package knows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from cachedit_yaml.engines.protocol import Engine

if TYPE_CHECKING:
    from cachedit_yaml.probe.coverage import Denoiser
    from cachedit_yaml.registry.matching import Match


class Diffusers(Engine):
    """Pipelines in a process of one's own."""

    name = title = "diffusers"
    packages = distributions = ("diffusers",)
    supported = ">=0.40"
    tested = ("0.40.0", "0.41.0", "0.42.1")
    needed = True
    class_index = "__init__.py"
    class_sources = ("models", "pipelines", "modular_pipelines")

    def snippet(self, model: str, adapter: str | None, match: Match | None) -> str:
        """Python."""
        name = f", {adapter!r}" if adapter else ""
        return (
            "import cachedit_yaml\n\n"
            f"pipe = cachedit_yaml.from_pretrained({model!r}{name})\n"
            "# or, for a pipeline that is there already:\n"
            f"# handle = cachedit_yaml.enable(pipe{name})"
        )

    def takes(self, pipeline: str) -> tuple[set[str], set[str]] | None:
        """What the signatures say; None where the class is not installed."""
        from cachedit_yaml.engines.diffusers.probe import takes

        return takes(pipeline)

    def stages(self, pipeline: str) -> Sequence[str]:
        """The denoise block of a Modular pipeline."""
        from cachedit_yaml.engines.diffusers.modular import stages
        from cachedit_yaml.engines.diffusers.probe import find_pipeline

        return stages(find_pipeline(pipeline))

    def components(self, pipeline: type) -> Iterable[tuple[str, type]]:
        """What the constructor, or a Modular pipeline's blocks, say."""
        from cachedit_yaml.engines.diffusers.denoisers import components

        return components(pipeline)

    def denoisers(self) -> Iterable[Denoiser]:
        """By inspection."""
        from cachedit_yaml.engines.diffusers.denoisers import denoisers

        return denoisers()


ENGINE: Final = Diffusers()
