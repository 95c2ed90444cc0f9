"""What an engine is to the rest of the package.

Each engine's folder has an ``engine.py`` with an object of a class derived from :class:`Engine`.
That module imports nothing that takes long. What takes longer lies beside it, and is imported when
it is needed: ``files.py`` (:class:`~cachedit_yaml.engines.configs.ConfigFiles`), ``probe.py``
(``build`` and ``close``) and ``against.py`` (``compare``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from cachedit_yaml.compiler.plan import Plan
    from cachedit_yaml.engines.configs import ConfigFiles
    from cachedit_yaml.language.spec import AdapterSpec, CacheSettings
    from cachedit_yaml.probe.coverage import Denoiser
    from cachedit_yaml.probe.prove import Subject
    from cachedit_yaml.probe.recipe import Recipe
    from cachedit_yaml.probe.rival import Rival
    from cachedit_yaml.registry.matching import Match
    from cachedit_yaml.rules.sources.code import Class
    from cachedit_yaml.rules.sources.reader import Reader
    from cachedit_yaml.rules.sources.values import Values


@dataclass(frozen=True)
class Plugin:
    """How an engine loads this package.

    Attributes:
        groups: groups of entry points in which it has to stand.
        variable: the environment variable that names the plugins that may be loaded.
        empty_is_all: whether an empty variable allows all of them, as one that is not set does.
    """

    groups: tuple[str, ...]
    variable: str
    empty_is_all: bool = False


@dataclass(frozen=True)
class Config:
    """A config file of an engine, which may hold an adapter too.

    Attributes:
        adapter: the adapter, or None where it is found by the pipeline's class.
        settings: the cache settings, which win over profile and adapter.
        sections: what else the engine is to do.
        notes: remarks for people.
    """

    adapter: AdapterSpec | None
    settings: CacheSettings
    sections: Mapping[str, Any]
    notes: tuple[str, ...]

    def load(self) -> Mapping[str, Any]:
        """Find out what is wrong in the sections, before anything is touched."""
        return self.sections

    def apply(self, plan: Plan) -> None:
        """Let the engine do what the sections say, for the transformers of a plan."""


class Engine:
    """One engine.

    Attributes:
        name: as adapters say it.
        title: as people say it.
        packages: the packages whose classes are its own.
        distributions: what is installed with it, its own distribution first.
        supported: the versions of its distribution that it may have; empty for any.
        tested: those that the tests run with.
        needed: whether caching needs it, whatever engine runs.
        loggers: those that say too much while small models are tried.
        class_index: the file of its package that lists the classes it exports.
        class_sources: the folders of its package in which they are defined.
        list_makers: its functions that make a block list of an argument that makes a block, with
            the place of that argument.
        plugin: how it loads this package; None where it does not.
        transformers_alone: whether its probes make transformers without pipelines, which guidance
            calls twice a step.
        configs: its config files that `validate` knows, in words; empty for none.
        by_hand: whose code, written by hand, its models are compared with.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    distributions: ClassVar[tuple[str, ...]]
    supported: ClassVar[str] = ""
    tested: ClassVar[tuple[str, ...]]
    needed: ClassVar[bool] = False
    loggers: ClassVar[tuple[str, ...]] = ()
    class_index: ClassVar[str] = ""
    class_sources: ClassVar[tuple[str, ...]] = ()
    list_makers: ClassVar[Mapping[str, int]] = {}
    plugin: ClassVar[Plugin | None] = None
    transformers_alone: ClassVar[bool] = False
    configs: ClassVar[str] = ""
    by_hand: ClassVar[str] = "cache-dit"

    @property
    def distribution(self) -> str:
        """The package that installs it."""
        return self.distributions[0]

    def snippet(self, model: str, adapter: str | None, match: Match | None) -> str:
        """What to write to cache a model.

        Args:
            model: where it is.
            adapter: the adapter's name, or its path where no name finds it; None if it is unknown.
            match: how it serves the model's pipeline, if that is known.
        """
        raise NotImplementedError

    def read_config(self, source: object, engine: str | None = None) -> Config | None:
        """Read what a caller gave in the place of an adapter; None for no config of this engine's.

        Args:
            source: what a caller gave.
            engine: the engine that runs the model; default: diffusers.

        Raises:
            AdapterError: it is one, and wrong; carries every error.
            ConfigError: a section has a key that the engine does not know.
        """
        return None

    def files(self) -> ConfigFiles | None:
        """Its config files, which `validate` knows; None where it has none."""
        found: ConfigFiles | None = self._own("files").FILES if self.configs else None
        return found

    def why_not(self, match: Match, pipeline: str) -> str | None:
        """Why an adapter serves a class of this engine's only where it is named, or None."""
        return None

    def remark(self, match: Match) -> str:
        """What else there is to say of an adapter that serves a class; empty for nothing."""
        if match.engine == match.asked:
            return ""
        return f"; it is made for {match.engine}, whose class of this name may be another"

    def modes(self, pipeline: str) -> str:
        """What caching does where the engine can run a pipeline class in another way; or empty."""
        return ""

    # --- its classes, read from their sources ---

    def part(self, reader: Reader, pipeline: Class, path: str) -> Values:
        """What a pipeline class holds where adapters name a transformer; empty for nothing."""
        return reader.follow(pipeline, path)

    def parts(self, reader: Reader, pipeline: Class) -> Sequence[str]:
        """The names that a transformer of a pipeline class could have."""
        return reader.names(pipeline)

    # --- small models, to prove adapters on ---

    def takes(self, pipeline: str) -> tuple[set[str], set[str]] | None:
        """What a pipeline class takes: the arguments of its constructor, and those of its call.

        None where nobody can tell before it is made.
        """
        return None

    def stages(self, pipeline: str) -> Sequence[str]:
        """The parts of a pipeline class that hold its transformers and can run alone, by name."""
        return ()

    def build(self, spec: AdapterSpec, recipe: Recipe, *, seed: int = 0) -> Subject:
        """Make what a recipe describes.

        Args:
            spec: the adapter that the recipe is of.
            recipe: what to make.
            seed: of the random weights.

        Raises:
            NotInstalledError: the engine, or a class that it needs, is not installed.
            ProbeError: it cannot be made; the message says why.
        """
        made: Subject = self._own("probe").build(spec, recipe, seed=seed)
        return made

    def close(self) -> None:
        """End what the last small model needs in this process, so that another engine can start."""
        self._own("probe").close()

    def compare(self, spec: AdapterSpec, recipe: Recipe) -> Rival | None:
        """What code written by hand does on the same small model; None where there is none.

        Raises:
            NotInstalledError: the engine, or a class that it needs, is not installed.
            ProbeError: the model cannot be made; the message says why.
        """
        found: Rival | None = self._own("against").compare(spec, recipe)
        return found

    def components(self, pipeline: type) -> Iterable[tuple[str, type]]:
        """The models that a pipeline class holds: names with classes, where that can be told."""
        return ()

    def denoisers(self) -> Iterable[Denoiser]:
        """Its pipelines that hold a transformer which denoises, where that can be looked up."""
        return ()

    def _own(self, module: str) -> Any:
        """A module of the engine's folder."""
        return import_module(f"cachedit_yaml.engines.{self.name}.{module}")
