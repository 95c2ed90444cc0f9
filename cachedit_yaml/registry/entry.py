"""One adapter file of the registry, read as late as possible."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from cachedit_yaml.engines import NAMES
from cachedit_yaml.language.inherit import Resolver
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.registry.search_path import Source, display_path
from cachedit_yaml.rules.load import adapter_error, check_document
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath, Span
from cachedit_yaml.yaml.document import Document
from cachedit_yaml.yaml.reader import read_file
from cachedit_yaml.yaml.reading import MAX_BYTES

#: Whether a text may have the key `name`; most adapters leave it out.
_SAYS_NAME: Final = re.compile(r"""(?:^|[{,])\s*["']?name["']?\s*:|\\""", re.MULTILINE)
#: Subfolders that hold the adapters of one engine only.
ENGINES: Final = frozenset(NAMES)


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
    def _read(self) -> tuple[Document, list[Diagnostic]]:
        return read_file(self.path, self.shown)

    @cached_property
    def _checked(self) -> tuple[AdapterSpec | None, list[Diagnostic], Document]:
        return check_document(*self._read, resolve=self._resolve)

    @property
    def data(self) -> Mapping[str, Any]:
        """What the file itself says, without what it extends; empty if it cannot be read."""
        return self._read[0].data or {}

    @property
    def document(self) -> Document:
        """The file itself, without what it extends."""
        return self._read[0]

    @property
    def reading(self) -> list[Diagnostic]:
        """What is wrong before the language comes in."""
        return self._read[1]

    @property
    def merged(self) -> Document:
        """The file together with what it extends."""
        return self._checked[2]

    @property
    def readable(self) -> bool:
        """Whether the file is YAML at all."""
        return self._read[0].data is not None

    @property
    def text(self) -> str:
        """The file's text."""
        return self._read[0].text

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

    @property
    def engine(self) -> str | None:
        """The engine whose subfolder the file lies in."""
        if not self.source.root.is_dir():
            return None
        folders = self.path.relative_to(self.source.root).parts[:-1]
        names = (name.replace("-", "_") for name in folders)
        return next((name for name in names if name in ENGINES), None)

    @property
    def label(self) -> str:
        """The name that means this file alone: with its engine, if it is for one only."""
        return self.name if self.engine is None else f"{self.engine}/{self.name}"

    @property
    def spec(self) -> AdapterSpec:
        """The adapter.

        Raises:
            AdapterError: the file is wrong.
        """
        spec, diagnostics, _ = self._checked
        if spec is None:
            raise adapter_error(diagnostics)
        return spec

    @property
    def checked_spec(self) -> AdapterSpec | None:
        """The adapter, or None where the file is wrong."""
        return self._checked[0]

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """Everything that is wrong or odd in the file."""
        return self._checked[1]

    @property
    def sources(self) -> Mapping[str, str]:
        """The texts of the file and of what it extends, by the names that messages use."""
        return self._checked[2].sources

    def claims(self, what: str) -> Iterator[tuple[str, KeyPath]]:
        """Names of the pipelines or transformers that the file itself claims.

        What it inherits is claimed by the file that it extends.
        """
        if what == "pipeline":
            yield from _names(self.data.get("pipelines"), ("pipelines",))
            return
        for name, value in _mapping(self.data.get("transformers")).items():
            path: KeyPath = ("transformers", name)
            yield from _names(_mapping(value).get("class"), (*path, "class"))
            variants = _mapping(value).get("variants")
            for index, variant in enumerate(variants if isinstance(variants, list) else ()):
                yield from _names(
                    _mapping(variant).get("class"), (*path, "variants", index, "class")
                )

    def span(self, path: KeyPath) -> Span | None:
        """Where something stands in the file."""
        return self._read[0].value_span(path)


def _names(value: object, path: KeyPath) -> Iterator[tuple[str, KeyPath]]:
    for index, item in enumerate(value if isinstance(value, list) else ()):
        if isinstance(item, str):
            yield item, (*path, index)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
