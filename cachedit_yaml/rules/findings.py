"""Findings of an adapter: where they belong, their order, and the error that they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from cachedit_yaml.errors import AdapterError, SchemaVersionError
from cachedit_yaml.language.defaults import DEFAULTS
from cachedit_yaml.language.views import sections_of
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath
from cachedit_yaml.yaml.document import Document


class Places(Mapping[KeyPath, str]):
    """``file:line`` by the keys that lead there, found when somebody asks.

    Args:
        find: finds all of them.
    """

    def __init__(self, find: Callable[[], Mapping[KeyPath, str]]) -> None:
        self._find = find

    @cached_property
    def _found(self) -> Mapping[KeyPath, str]:
        return self._find()

    def __getitem__(self, path: KeyPath) -> str:
        return self._found[path]

    def __iter__(self) -> Iterator[KeyPath]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return dict, (dict(self),)


def too_long(diagnostics: Iterable[Diagnostic]) -> bool:
    """Whether something is many times too long: nothing else is looked at until it is not."""
    return any(
        item.code == "wrong-length" and str(item.expected).startswith("at most ")
        for item in diagnostics
    )


def adapter_error(diagnostics: list[Diagnostic]) -> AdapterError:
    """The error that fits a list of diagnostics; warnings are left out."""
    errors = [item for item in diagnostics if item.severity == "error"]
    if any(item.code == "schema-version" for item in errors):
        return SchemaVersionError(errors)
    return AdapterError(errors)


def path_in(data: Mapping[str, Any], engine: str, path: KeyPath) -> KeyPath:
    """The keys that lead in a file itself to what has this path in its view for an engine."""
    there: Any = sections_of(data).get(engine)
    if not path or there is None:
        return path
    try:
        for step in path:
            there = there[step]
    except (KeyError, IndexError, TypeError):
        return path
    return ("engines", engine, *path)


def placed(item: Diagnostic, data: Mapping[str, Any], engine: str) -> Diagnostic:
    """A finding about a view for an engine, with the keys that lead to it in the file itself."""
    path = path_in(data, engine, item.key_path)
    return item if path == item.key_path else dataclasses.replace(item, key_path=path)


def is_of_defaults(item: Diagnostic) -> bool:
    """Whether a remark is about the defaults: the adapter did not say it."""
    span = item.span
    return item.severity != "error" and span is not None and Path(span.path).name == DEFAULTS


def in_order(diagnostics: list[Diagnostic], document: Document) -> list[Diagnostic]:
    """Sort by place, the document's own file first; drop what was said twice."""

    def place(item: Diagnostic) -> tuple[bool, str, int, int]:
        if item.span is None:
            return (False, "", 0, 0)
        span = item.span
        return (span.path != document.name, span.path, span.line, span.column)

    return sorted(dict.fromkeys(diagnostics), key=place)
