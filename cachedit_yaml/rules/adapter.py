"""One adapter: its document, what it extends, and what it means in each engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

from cachedit_yaml.language.inherit import Resolver, bases_of
from cachedit_yaml.language.schemas import schema_of
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.language.structure import assemble, check
from cachedit_yaml.language.views import (
    classes_of,
    engines_of,
    is_home,
    own_view,
    sections_of,
    view,
)
from cachedit_yaml.rules.checks import check_adapter, check_order, check_repeats, check_version
from cachedit_yaml.rules.findings import (
    Places,
    adapter_error,
    in_order,
    is_of_defaults,
    path_in,
    placed,
    too_long,
)
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath, Span
from cachedit_yaml.yaml.document import Document

#: Reads a document, and says what is wrong with it.
Read: TypeAlias = Callable[[], tuple[Document, list[Diagnostic]]]


class Claim(NamedTuple):
    """A class that an adapter says it is for.

    Attributes:
        name: the class, or a pattern with ``*``.
        path: the keys that lead to it.
        span: where it stands.
    """

    name: str
    path: KeyPath
    span: Span | None


class _View(NamedTuple):
    """What is kept of an adapter in an engine: ten thousand merged documents would be too much."""

    spec: AdapterSpec | None
    diagnostics: list[Diagnostic]
    sources: Mapping[str, str]


class Adapter:
    """One adapter: a document, what it extends, and what it means in each engine.

    Nothing is read before it is needed.

    Args:
        read: gives the document and what is wrong with it before the language comes in.
        resolve: finds what `extends` names; without it only paths can be extended.
        standalone: whether it has to say which pipelines it is for.
    """

    def __init__(
        self, read: Read, *, resolve: Resolver | None = None, standalone: bool = True
    ) -> None:
        self._open = read
        self._resolve = resolve
        self._standalone = standalone
        self._views: dict[str, _View] = {}
        self._sound = True

    @classmethod
    def of(
        cls,
        document: Document,
        reading: list[Diagnostic],
        *,
        resolve: Resolver | None = None,
        standalone: bool = True,
    ) -> Adapter:
        """An adapter of a document that was read already."""
        return Adapter(lambda: (document, reading), resolve=resolve, standalone=standalone)

    @cached_property
    def _read(self) -> tuple[Document, list[Diagnostic]]:
        return self._open()

    @property
    def document(self) -> Document:
        """What the file itself says, without what it extends."""
        return self._read[0]

    @property
    def reading(self) -> list[Diagnostic]:
        """What is wrong before the language comes in."""
        return self._read[1]

    @property
    def data(self) -> Mapping[str, Any]:
        """What the file itself says; empty if it cannot be read."""
        return self.document.data or {}

    @property
    def home(self) -> bool:
        """Whether it serves diffusers' pipelines, and any engine that finds nothing better."""
        return is_home(self.data)

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that it serves."""
        return engines_of(self.data)

    @property
    def sections(self) -> tuple[str, ...]:
        """The engines that it has a section for."""
        return tuple(sections_of(self.data))

    def serving(self, engine: str | None) -> str:
        """The engine as which it serves one that asks; by default the first of its own."""
        if engine is not None and (engine in self.engines or self.home):
            return engine
        return self.engines[0]

    def claims(self, what: str, engine: str | None = None) -> Iterator[Claim]:
        """Names of the pipelines or transformers that the file itself claims for an engine.

        What it inherits is claimed by the file that it extends.
        """
        if self.document.data is None:
            return
        engine = self.serving(engine)
        own = own_view(self.document, engine)
        data = own.data or {}
        if what == "pipeline":
            names = data.get("pipelines")
            found: list[tuple[str, KeyPath]] = [
                (name, ("pipelines", index))
                for index, name in enumerate(names if isinstance(names, list) else ())
                if isinstance(name, str)
            ]
        else:
            found = [
                (name, ("transformers", *path))
                for classes in classes_of(data.get("transformers")).values()
                for name, path in classes.items()
            ]
        for name, path in found:
            yield Claim(name, path_in(self.data, engine, path), own.value_span(path))

    # --- what it means ---

    def spec_for(self, engine: str | None = None) -> AdapterSpec:
        """The adapter as an engine sees it; by default the first that it serves.

        Raises:
            SchemaVersionError: the file is written for another version of the language.
            AdapterError: the file is wrong; carries every error.
        """
        found = self._view(self.serving(engine))
        if found.spec is None:
            raise adapter_error(found.diagnostics)
        return found.spec

    @property
    def spec(self) -> AdapterSpec:
        """The adapter for the first engine that it serves.

        Raises:
            AdapterError: the file is wrong.
        """
        return self.spec_for()

    @property
    def checked_spec(self) -> AdapterSpec | None:
        """The same, or None where the file is wrong."""
        return self.spec if self.valid else None

    @cached_property
    def diagnostics(self) -> list[Diagnostic]:
        """Errors and warnings of all that it says, for whatever engine, in the file's order."""
        found: dict[object, Diagnostic] = {}
        main = self.serving(None)
        # An empty section changes nothing that is not looked at already.
        others = [name for name, section in sections_of(self.data).items() if section]
        plain = [name for name in self.engines if name not in others][:1]
        for engine in dict.fromkeys((main, *others, *plain)):
            for item in self._view(engine).diagnostics:
                found.setdefault((item.code, item.message, item.span or item.key_path), item)
        result = list(found.values())
        if self.document.sources and all(item.severity != "error" for item in result):
            result += check_repeats(self._chain[0], self.engines)
        return in_order(result, self.document)

    @property
    def valid(self) -> bool:
        """Whether nothing is wrong with it, for whatever engine."""
        return all(item.severity != "error" for item in self.diagnostics)

    @property
    def sources(self) -> Mapping[str, str]:
        """The texts of the file and of what it extends, by the names that messages use."""
        return {
            name: text
            for engine in self.engines
            for name, text in self._view(engine).sources.items()
        }

    def merged(self, engine: str | None = None) -> Document:
        """The file together with what it extends and the defaults."""
        chain = self._chain[0] if self.document.data is not None else []
        if not chain:
            return self.document
        return view(chain, self.serving(engine))

    @cached_property
    def _chain(self) -> tuple[list[Document], list[Diagnostic]]:
        """The file and what it extends, and everything that is wrong before they are merged."""
        document = self.document
        assert document.data is not None
        found = [*self.reading, *check_version(document.data, document)]
        if document.sources:
            found += check_order(document.data, document)
        if any(item.code == "schema-version" for item in found):
            return [], found
        bases, of_bases = bases_of(document, self._resolve)
        for base in bases:
            assert base.data is not None
            of_bases += check_version(base.data, base)
        found += of_bases
        if any(item.code == "schema-version" for item in found):
            return [], found
        for each in (document, *bases):
            # That the key is missing is said already, in better words.
            data = {"schema": 1, **(each.data or {})}
            problems = check(schema_of(AdapterSpec), data, each)
            self._sound = self._sound and not problems
            found += problems
        return [document, *bases], found

    def _view(self, engine: str) -> _View:
        if engine not in self._views:
            self._views[engine] = self._make_view(engine)
        return self._views[engine]

    def _make_view(self, engine: str) -> _View:
        document = self.document
        if document.data is None:
            return _View(None, self.reading, document.sources)
        chain, found = self._chain
        if not chain:
            return _View(None, in_order(found, document), document.sources)
        merged = self.merged(engine)
        data = {"schema": 1, **(merged.data or {})}
        spec: AdapterSpec | None = None
        problems: list[Diagnostic] = []
        if self._sound:
            spec, problems = assemble(AdapterSpec, data, merged)
        if not too_long(found) and not any(item.code == "extends" for item in found):
            standalone = self._standalone and "extends" not in data
            problems = problems + check_adapter(data, merged, standalone=standalone)
        found = found + [
            placed(item, self.data, engine) for item in problems if not is_of_defaults(item)
        ]
        found = in_order(found, document)
        if spec is None or any(item.severity == "error" for item in found):
            return _View(None, found, merged.sources)
        stem = document.path.stem if document.path is not None else "unnamed"
        spec = dataclasses.replace(
            spec,
            name=spec.name or stem,
            engine=engine,
            source=document.path,
            places=Places(lambda: self.merged(engine).places()),
        )
        return _View(spec, found, merged.sources)
