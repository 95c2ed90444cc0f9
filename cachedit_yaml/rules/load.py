"""From a file, a text or a dict to an :class:`AdapterSpec`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from cachedit_yaml.errors import AdapterError, ConfigError, SchemaVersionError
from cachedit_yaml.language.inherit import Resolver, resolve_extends
from cachedit_yaml.language.spec import AdapterSpec, CacheSettings
from cachedit_yaml.language.structure import structure
from cachedit_yaml.rules.checks import (
    check_adapter,
    check_order,
    check_settings,
    check_version,
)
from cachedit_yaml.yaml.diagnostics import Diagnostic
from cachedit_yaml.yaml.document import Document
from cachedit_yaml.yaml.reader import read_file, read_text


def load_adapter(
    source: str | os.PathLike[str] | Mapping[str, Any], *, resolve: Resolver | None = None
) -> AdapterSpec:
    """Load one adapter.

    Args:
        source: a path; YAML text (a string that holds a line break); or a dict of the same keys.
        resolve: finds what `extends` names; default: the adapters that are shipped and found.

    Returns:
        The adapter, with its name, source and lines filled in.

    Raises:
        SchemaVersionError: the file is written for another version of the language.
        AdapterError: the adapter is wrong; carries every error.
    """
    if isinstance(source, Mapping):
        spec, diagnostics = _from_dict(source, resolve)
    elif isinstance(source, str) and "\n" in source:
        spec, diagnostics, _ = check_document(*read_text(source), resolve=resolve, standalone=False)
    else:
        spec, diagnostics, _ = read_adapter(source, resolve=resolve)
    if spec is None:
        raise adapter_error(diagnostics)
    return spec


def read_adapter(
    path: str | os.PathLike[str], *, name: str | None = None, resolve: Resolver | None = None
) -> tuple[AdapterSpec | None, list[Diagnostic], Document]:
    """Read one adapter file and keep everything that can be said about it.

    Args:
        path: the file.
        name: how messages call it; default: the path.
        resolve: as in :func:`load_adapter`.

    Returns:
        The adapter (None if there are errors), errors and warnings in the order of the file, and
        the document, merged with what it extends.
    """
    return check_document(*read_file(path, name), resolve=resolve)


def check_document(
    document: Document,
    diagnostics: list[Diagnostic],
    *,
    resolve: Resolver | None = None,
    standalone: bool = True,
) -> tuple[AdapterSpec | None, list[Diagnostic], Document]:
    """Check a document that was read already.

    Args:
        document: the document.
        diagnostics: what reading it found.
        resolve: as in :func:`load_adapter`.
        standalone: whether it has to say which pipelines it is for.

    Returns:
        As :func:`read_adapter`.
    """
    if document.data is None:
        return None, diagnostics, document
    found = list(diagnostics) + check_version(document.data, document)
    found += check_order(document.data, document)
    if any(item.code == "schema-version" for item in found):
        return None, _in_order(found, document), document
    merged, of_bases = resolve_extends(document, resolve)
    found += of_bases
    if any(item.code == "schema-version" for item in of_bases):
        return None, _in_order(found, document), merged
    assert merged.data is not None
    data = merged.data
    if "schema" not in data:
        data = {"schema": 1, **data}  # reported above, in better words
    spec, problems = structure(AdapterSpec, data, merged)
    found += problems
    if not any(item.code == "extends" for item in of_bases):
        found += check_adapter(data, merged, standalone=standalone and "extends" not in data)
    found = _in_order(found, document)
    if spec is None or any(item.severity == "error" for item in found):
        return None, found, merged
    stem = document.path.stem if document.path is not None else "unnamed"
    spec = dataclasses.replace(
        spec, name=spec.name or stem, source=document.path, places=merged.places()
    )
    return spec, found, merged


def parse_settings(mapping: Mapping[str, Any], what: str = "cache_config") -> CacheSettings:
    """Turn a user's dict into cache settings.

    Args:
        mapping: names and values as under `cache:` in an adapter.
        what: how messages call the dict.

    Returns:
        The settings; what the dict does not mention is ``UNSET``.

    Raises:
        ConfigError: a name or value is wrong; names all of them.
    """
    settings, problems = structure(CacheSettings, mapping, prefix=(what,))
    if isinstance(mapping, Mapping):
        problems += check_settings(mapping, (what,))
    errors = [item for item in problems if item.severity == "error"]
    if settings is None or errors:
        raise ConfigError("\n".join(item.summary() for item in errors))
    return settings


def adapter_error(diagnostics: list[Diagnostic]) -> AdapterError:
    """The error that fits a list of diagnostics; warnings are left out."""
    errors = [item for item in diagnostics if item.severity == "error"]
    if any(item.code == "schema-version" for item in errors):
        return SchemaVersionError(errors)
    return AdapterError(errors)


def _from_dict(
    data: Mapping[str, Any], resolve: Resolver | None
) -> tuple[AdapterSpec | None, list[Diagnostic]]:
    found = check_version(data)
    if any(item.code == "schema-version" for item in found):
        return None, found
    if "schema" not in data:
        data = {"schema": 1, **data}
    # Only names can be extended here: a dict lies in no folder.
    document = Document("adapter", dict(data))
    merged, of_bases = resolve_extends(document, resolve)
    found += of_bases
    assert merged.data is not None
    placed = merged if merged is not document else None
    spec, problems = structure(AdapterSpec, merged.data, placed)
    found += problems + check_adapter(merged.data, placed, standalone=False)
    if spec is None or any(item.severity == "error" for item in found):
        return None, found
    return dataclasses.replace(spec, name=spec.name or "unnamed"), found


def _in_order(diagnostics: list[Diagnostic], document: Document) -> list[Diagnostic]:
    """Sort by place, the document's own file first; drop what was said twice."""

    def place(item: Diagnostic) -> tuple[bool, str, int, int]:
        if item.span is None:
            return (False, "", 0, 0)
        span = item.span
        return (span.path != document.name, span.path, span.line, span.column)

    return sorted(dict.fromkeys(diagnostics), key=place)
