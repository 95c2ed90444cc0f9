"""Find the adapter for a pipeline, a transformer or a name.

Only names are read from each file here; a file is checked in full when it is asked for. So one
broken file among many stops nobody but those who want it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from cachedit_yaml.language.defaults import DEFAULTS, shipped_folder
from cachedit_yaml.language.keys import HOME
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.registry.conflicts import conflicts
from cachedit_yaml.registry.entry import Entry
from cachedit_yaml.registry.hub import fetch, hub_name
from cachedit_yaml.registry.matching import (
    ByClass,
    ClassLike,
    Match,
    conflict,
    overriding,
    strongest,
)
from cachedit_yaml.registry.names import is_path, of_engine
from cachedit_yaml.registry.not_found import no_such_file, no_such_name
from cachedit_yaml.registry.search_path import SUFFIXES, Source, find_sources, yaml_files
from cachedit_yaml.registry.stranger import Stranger, beside_model, from_hub
from cachedit_yaml.rules.load import load_adapter
from cachedit_yaml.yaml.diagnostics import Diagnostic

__all__ = ["Entry", "Match", "Registry"]


class Registry:
    """All adapters that can be found.

    Args:
        sources: where to look, the weakest first.
        problems: what went wrong while looking for sources.

    Attributes:
        source_problems: sources that cannot be used.
    """

    def __init__(self, sources: Sequence[Source], problems: Iterable[Diagnostic] = ()) -> None:
        self.sources = list(sources)
        self.source_problems = list(problems)

    @classmethod
    def load(
        cls,
        extra: Iterable[str | os.PathLike[str]] = (),
        environ: Mapping[str, str] | None = None,
    ) -> Registry:
        """Look in every place that :mod:`cachedit_yaml.registry.search_path` names.

        Args:
            extra: more folders or files, which win over all others.
            environ: the environment; default: ``os.environ``.

        Raises:
            AdapterNotFoundError: a folder or file of `extra` does not exist.
        """
        global _LAST
        sources, problems = find_sources(extra, environ)
        # Reading a hundred files takes longer than asking whether any of them has changed.
        files = [path for source in sources for path in yaml_files(source.root)]
        shipped = shipped_folder()
        files += [shipped / DEFAULTS] if shipped is not None else []
        key = (tuple(sources), tuple(map(_stamp, files)))
        if _LAST is None or _LAST[0] != key or problems or cls is not Registry:
            _LAST = (key, cls(sources, problems))
        return _LAST[1]

    @cached_property
    def entries(self) -> list[Entry]:
        """Every adapter file, the weakest source first. A file of two sources counts once."""
        return list(self._by_file.values())

    @cached_property
    def _by_file(self) -> dict[str, Entry]:
        """The entries by the files that they are in the end."""
        by_file: dict[str, Entry] = {}
        for source in self.sources:
            for path in yaml_files(source.root):
                identity = os.path.realpath(path)
                by_file.pop(identity, None)
                by_file[identity] = Entry(source, path, self.resolve)
        return by_file

    def adapters(self) -> list[Entry]:
        """Every adapter, by name."""
        return sorted(self.entries, key=lambda e: (e.name.casefold(), e.source.rank, e.shown))

    # --- by name ---

    def get(
        self, source: str | os.PathLike[str] | Mapping[str, Any], engine: str | None = None
    ) -> AdapterSpec:
        """Load one adapter.

        Args:
            source: a name, or ``engine/name``; a path (anything else with a folder, or with the
                suffix of a YAML file); where there is no such path, ``org/repo`` on the hub
                (:mod:`cachedit_yaml.registry.hub`); YAML text (anything with a line break); or a
                dict of the same keys.
            engine: the engine that asks; default: diffusers, or the first that it serves.

        Raises:
            AdapterNotFoundError: there is no such adapter or file.
            AdapterConflictError: two files of one source have this name.
            AdapterError: the adapter is wrong.
        """
        if isinstance(source, Mapping) or (isinstance(source, str) and "\n" in source):
            return load_adapter(source, resolve=self.resolve, engine=engine)
        engine, source = of_engine(source, engine)
        return self.find(source, engine).spec_for(engine)

    def find(self, name_or_path: str | os.PathLike[str], engine: str | None = None) -> Entry:
        """The file of an adapter.

        Args:
            name_or_path: as for :meth:`get`, but no text.
            engine: the engine that asks.

        Raises:
            AdapterNotFoundError: there is no such adapter or file.
            AdapterConflictError: two files of one source have this name.
        """
        engine, name_or_path = of_engine(name_or_path, engine)
        if isinstance(name_or_path, str) and not is_path(name_or_path):
            return self.entry(name_or_path, engine)
        path = Path(os.path.expanduser(name_or_path))
        if not os.path.exists(path):
            wanted = hub_name(name_or_path)
            if wanted is None:
                raise no_such_file(path, self.entries)
            return from_hub(fetch(wanted), len(self.sources), self._shipped)
        return self.find_file(path, Source("argument", len(self.sources), path, "argument"))

    def beside(self, folder: str | os.PathLike[str]) -> Stranger | None:
        """The adapter in a saved model's own folder, which wins over all others; None without."""
        return beside_model(folder, len(self.sources), self._shipped)

    def find_file(self, path: Path, source: Source) -> Entry:
        """A file as an adapter, whether it was found or not.

        Args:
            path: the file.
            source: where it comes from, if it was not found.
        """
        known = self._by_file.get(os.path.realpath(path))
        return known if known is not None else Entry(source, path, self.resolve)

    def entry(self, name: str, engine: str | None = None) -> Entry:
        """The file that holds the adapter of this name.

        Args:
            name: the adapter's name. Adapters of several engines may share one.
            engine: the engine that asks, as for :meth:`match_pipeline`.

        Raises:
            AdapterNotFoundError: there is none.
            AdapterConflictError: two files of one source have this name.
        """
        return self._named(name, engine)[0]

    def note_on(self, source: str) -> str | None:
        """What somebody should know who asks for an adapter by name: what it overrides, or where on
        the hub it comes from.

        Args:
            source: as for :meth:`get`; of a path or a text there is nothing to say.

        Raises:
            AdapterNotFoundError: there is none of this name.
            AdapterConflictError: two files of one source have this name.
        """
        wanted = hub_name(source)
        if wanted is not None:
            return fetch(wanted).note
        if is_path(source) or "\n" in source:
            return None
        return overriding(*self._named(source, None)) or None

    def _named(self, name: str, engine: str | None) -> list[Entry]:
        """The files with the adapter's name, the strongest first."""
        found = [entry for entry in self.entries if entry.name == name]
        if not found:
            raise no_such_name(name, self.entries, self.sources, engine)
        return _the_strongest(found, engine)

    def resolve(self, name: str, origin: Path | None) -> Path:
        """Find the file that an `extends` means.

        An adapter extends those of its own or a weaker source: a user's file never changes what
        a shipped adapter is made of, and may extend the shipped one of its own name.

        Args:
            name: the name in `extends`.
            origin: the file that says it.

        Raises:
            AdapterNotFoundError: there is none.
            AdapterConflictError: two files of one source have this name.
        """
        own = self._by_file.get(os.path.realpath(origin)) if origin is not None else None
        found = [entry for entry in self.entries if entry.name == name and entry is not own]
        if own is not None:
            weaker = [entry for entry in found if entry.source.rank <= own.source.rank]
            found = weaker or found
        if not found and origin is not None:
            beside = [origin.with_name(name + suffix) for suffix in SUFFIXES]
            for path in beside:
                if os.path.isfile(path) and path != origin:
                    return path
        if not found:
            raise no_such_name(name, self.entries, self.sources)
        return _the_strongest(found, None)[0].path

    def _shipped(self, name: str, _origin: Path | None) -> Path:
        """Find a shipped adapter, as :meth:`resolve` does."""
        return Registry([item for item in self.sources if item.kind == "shipped"]).resolve(
            name, None
        )

    # --- by class ---

    def match_pipeline(self, pipeline: ClassLike, engine: str | None = None) -> Match:
        """Find the adapter for a pipeline class.

        The class's own name comes first, then its bases in the order of the MRO, then patterns
        with ``*``, the longest first. Among the same names the strongest source wins, then a file
        with a section for the engine, then one for diffusers' pipelines.

        Args:
            pipeline: the class, its name, or the names of the class and its bases.
            engine: the engine that asks; default: diffusers.

        Raises:
            AdapterNotFoundError: no adapter names the class.
            AdapterConflictError: two adapters name it with the same right.
            AdapterError: the adapter that names it is wrong.
        """
        return self._classes.match("pipeline", pipeline, engine)

    def match_transformer(self, transformer: ClassLike, engine: str | None = None) -> Match:
        """Find the adapter for a transformer class, by the `class` of transformers and variants.

        Arguments and errors are those of :meth:`match_pipeline`.
        """
        return self._classes.match("transformer", transformer, engine)

    def find_transformer(self, transformer: ClassLike, engine: str | None = None) -> Match | None:
        """Find the adapter for a transformer class as :meth:`match_transformer` does, or None."""
        return self._classes.find("transformer", transformer, engine)

    def conflicts(self, entries: Iterable[Entry] | None = None) -> list[Diagnostic]:
        """What :mod:`~cachedit_yaml.registry.conflicts` finds among some entries, or all."""
        return conflicts(self.entries if entries is None else entries)

    @cached_property
    def _classes(self) -> ByClass:
        return ByClass(self.entries, self.sources)


#: The registry that was loaded last, and what it was loaded from.
_LAST: tuple[object, Registry] | None = None


def _the_strongest(entries: Sequence[Entry], engine: str | None) -> list[Entry]:
    """The strongest of some entries of one name, and those that it overrides."""
    best, others = strongest(entries, engine or HOME[0])
    if len(best) > 1:
        places = [entry.document.value_span(("name",)) or entry.shown for entry in best]
        raise conflict(places, f"have the name {best[0].name!r}")
    return [*best, *others]


def _stamp(path: Path) -> tuple[str, int, int]:
    """What changes when a file does."""
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), found.st_mtime_ns, found.st_size
