"""One adapter file of the registry, read as late as possible."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from cachedit_yaml.engines import NAMES
from cachedit_yaml.language.inherit import Resolver
from cachedit_yaml.language.keys import HOME
from cachedit_yaml.language.schemas import load
from cachedit_yaml.language.spec import AdapterSpec, Probe
from cachedit_yaml.language.structure import assemble, check
from cachedit_yaml.registry.search_path import PROBES, Source, display_path
from cachedit_yaml.rules.load import Adapter, Claim, adapter_error
from cachedit_yaml.yaml.diagnostics import Diagnostic
from cachedit_yaml.yaml.document import Document
from cachedit_yaml.yaml.reader import read_file, read_text
from cachedit_yaml.yaml.reading import MAX_BYTES

#: Whether a text may have the key `name`; most adapters leave it out.
_SAYS_NAME: Final = re.compile(r"""(?:^|[{,])\s*["']?name["']?\s*:|\\""", re.MULTILINE)


class Entry:
    """One adapter file. Nothing is read before it is needed.

    Attributes:
        source: where it was found.
        path: the file.
        shown: the file as messages call it.
    """

    def __init__(self, source: Source, path: Path, resolve: Resolver) -> None:
        self.source = source
        self.path = path
        self.shown = display_path(path)
        self._resolve = resolve

    def __repr__(self) -> str:
        return f"Entry({self.name!r}, {self.source.kind}, {self.shown!r})"

    @cached_property
    def adapter(self) -> Adapter:
        """What the file holds."""
        return Adapter(*read_file(self.path, self.shown), resolve=self._resolve, only=self._folder)

    @property
    def _folder(self) -> str | None:
        """The engine whose subfolder the file lies in."""
        if not self.source.root.is_dir():
            return None
        folders = self.path.relative_to(self.source.root).parts[:-1]
        names = (name.replace("-", "_") for name in folders)
        return next((name for name in names if name in NAMES), None)

    @property
    def data(self) -> Mapping[str, Any]:
        """What the file itself says, without what it extends; empty if it cannot be read."""
        return self.adapter.data

    @property
    def document(self) -> Document:
        """The file itself, without what it extends."""
        return self.adapter.document

    @property
    def reading(self) -> list[Diagnostic]:
        """What is wrong before the language comes in."""
        return self.adapter.reading

    @property
    def readable(self) -> bool:
        """Whether the file is YAML at all."""
        return self.document.data is not None

    @property
    def text(self) -> str:
        """The file's text."""
        return self.document.text

    @cached_property
    def raw(self) -> str:
        """The file's text as it stands, to look for words in; empty if it cannot be read."""
        try:
            if not self.path.is_file():
                return ""
            with open(self.path, encoding="utf-8", errors="replace") as handle:
                return handle.read(MAX_BYTES)
        except (OSError, ValueError):
            return ""

    @cached_property
    def name(self) -> str:
        """The adapter's name."""
        if not _SAYS_NAME.search(self.raw):
            return self.path.stem
        name = self.data.get("name")
        return name if isinstance(name, str) and name else self.path.stem

    @property
    def kind(self) -> str:
        """How the file came into the search: shipped, entry-point, environment or argument."""
        return self.source.kind

    # --- engines ---

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that the adapter serves."""
        return self.adapter.engines

    @property
    def home(self) -> bool:
        """Whether it serves diffusers' pipelines, and any engine that finds nothing better."""
        return self.adapter.home

    def right(self, engine: str | None) -> int:
        """How good its right to serve an engine is: 2 by its section, 1 at home, 0 as another's."""
        if engine in self.adapter.sections:
            return 2
        return 1 if self.home else 0

    @property
    def label(self) -> str:
        """The name, with the engine where it does not serve diffusers' pipelines: ``engine/x``."""
        engine = self.engines[0]
        return self.name if engine in HOME else f"{engine}/{self.name}"

    @property
    def spec(self) -> AdapterSpec:
        """The adapter for the first engine that it serves.

        Raises:
            AdapterError: the file is wrong.
        """
        return self.spec_for(None)

    def spec_for(self, engine: str | None) -> AdapterSpec:
        """The adapter as an engine sees it.

        Raises:
            AdapterError: the file is wrong.
        """
        return self.adapter.spec_for(engine)

    def claims(self, what: str, engine: str | None = None) -> Iterator[Claim]:
        """Names of the pipelines or transformers that the file itself claims for an engine.

        What it inherits is claimed by the file that it extends.
        """
        return self.adapter.claims(what, engine)

    # --- probes ---

    def probe(self, engine: str | None = None) -> Probe | None:
        """How to make a small model for an engine: its own probe, or the one in ``probes/``.

        Raises:
            AdapterError: the file of the probe is wrong.
        """
        spec = self.spec_for(engine)
        if spec.probe is not None:
            return spec.probe
        path = self.path.with_name(PROBES) / f"{self.path.stem}.yaml"
        if not path.is_file():
            return None
        document, found = read_file(path, display_path(path))
        if document.data is not None:
            found = found + check(load("probe"), document.data, document)
            if not found:
                section = document.data.get(HOME[0] if spec.engine in HOME else spec.engine)
                return assemble(Probe, section)[0] if section is not None else None
        raise adapter_error(found)

    def with_probe(self, engine: str | None = None) -> AdapterSpec:
        """The adapter as an engine sees it, together with its probe.

        Raises:
            AdapterError: the file is wrong, or that of the probe.
        """
        return dataclasses.replace(self.spec_for(engine), probe=self.probe(engine))

    def to_prove(self, engine: str | None = None) -> list[AdapterSpec]:
        """The adapter with its probe, for each engine that runs pipelines of its own.

        Args:
            engine: only for this one.

        Raises:
            AdapterError: the file is wrong, or that of the probe.
        """
        if engine is not None:
            return [self.with_probe(engine)]
        # cache-dit runs the pipelines of diffusers.
        engines = [name for name in self.engines if name != "cache_dit"] or self.engines
        return [self.with_probe(name) for name in engines]

    # --- what is wrong ---

    @property
    def checked_spec(self) -> AdapterSpec | None:
        """The adapter, or None where the file is wrong."""
        return self.spec if self.adapter.valid else None

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """Everything that is wrong or odd in the file."""
        return self.adapter.diagnostics


class TextEntry(Entry):
    """An adapter that lies in no file.

    Args:
        content: its text.
        name: how messages call it.
        resolve: finds what `extends` names.
    """

    def __init__(self, content: bytes, name: str, resolve: Resolver) -> None:
        super().__init__(Source("argument", 0, Path(name), "argument"), Path(name), resolve)
        self._content = content

    @cached_property
    def adapter(self) -> Adapter:
        """What the text holds."""
        return Adapter(*read_text(self._content, self.shown), resolve=self._resolve)

    @cached_property
    def raw(self) -> str:
        """The text, to look for words in."""
        return self._content.decode("utf-8", "replace")
