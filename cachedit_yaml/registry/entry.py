"""One adapter file of the registry, read as late as possible."""

from __future__ import annotations

import dataclasses
import os
import re
from functools import cached_property, partial
from pathlib import Path
from typing import Final

from cachedit_yaml.language.inherit import Resolver
from cachedit_yaml.language.keys import HOME
from cachedit_yaml.language.schemas import load
from cachedit_yaml.language.spec import AdapterSpec, Probe
from cachedit_yaml.language.structure import assemble, check
from cachedit_yaml.registry.search_path import PROBES, Source, display_path
from cachedit_yaml.rules.adapter import Adapter
from cachedit_yaml.rules.findings import adapter_error
from cachedit_yaml.yaml.diagnostics import Diagnostic, Span
from cachedit_yaml.yaml.document import Document
from cachedit_yaml.yaml.reader import leads_out, read_file, read_text
from cachedit_yaml.yaml.reading import MAX_BYTES

#: Whether a text may have the key `name`; most adapters leave it out.
_SAYS_NAME: Final = re.compile(r"""(?:^|[{,])\s*["']?name["']?\s*:|\\""", re.MULTILINE)


def read_own(path: Path, shown: str) -> tuple[Document, list[Diagnostic]]:
    """Read a file of a folder, as :func:`read_file`.

    Of what a link out of the folder leads to nothing is said, and no line of it shown, unless it
    says that it is an adapter: a stranger's folder may hold links to what is nobody's business.
    """
    document, found = read_file(path, shown)
    if "schema" in (document.data or {}) or not os.path.isfile(path):
        return document, found
    if not leads_out(path) or _in_cache(path):
        return document, found
    problem = Diagnostic(
        "unreadable",
        "the file is a link out of its folder, to what is no adapter",
        span=Span(shown, 1, 1, 1, 2),
    )
    return Document(shown, path=path, sources={shown: ""}), [problem]


def _in_cache(path: Path) -> bool:
    """Whether a file is one of a snapshot in the cache of huggingface_hub."""
    snapshots = os.path.dirname(os.path.realpath(path.parent))
    blobs = os.path.join(os.path.dirname(snapshots), "blobs")
    return os.path.dirname(os.path.realpath(path)) == blobs


class Entry(Adapter):
    """One adapter file of the registry.

    Attributes:
        source: where it was found.
        path: the file.
        shown: the file as messages call it.
    """

    def __init__(self, source: Source, path: Path, resolve: Resolver) -> None:
        self.source = source
        self.path = path
        self.shown = display_path(path)
        super().__init__(partial(read_own, path, self.shown), resolve=resolve)

    def __repr__(self) -> str:
        return f"Entry({self.name!r}, {self.source.kind}, {self.shown!r})"

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
            if not os.path.isfile(self.path):
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

    def right(self, engine: str | None) -> int:
        """How good its right to serve an engine is: 2 by its section, 1 at home, 0 as another's."""
        if engine in self.sections:
            return 2
        return 1 if self.home else 0

    @property
    def label(self) -> str:
        """The name, with the engine where it does not serve diffusers' pipelines: ``engine/x``."""
        engine = self.engines[0]
        return self.name if engine in HOME else f"{engine}/{self.name}"

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
        if not os.path.isfile(path):
            return None
        document, found = read_own(path, display_path(path))
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


class TextEntry(Entry):
    """An adapter that lies in no file.

    Args:
        content: its text.
        name: how messages call it.
        resolve: finds what `extends` names.
    """

    def __init__(self, content: bytes, name: str, resolve: Resolver) -> None:
        super().__init__(Source("argument", 0, Path(name), "argument"), Path(name), resolve)
        self._open = partial(read_text, content, self.shown)
        self.raw = content.decode("utf-8", "replace")
