"""The version of the language, which comes before everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cachedit_yaml.language.spec import LANGUAGE_VERSION
from cachedit_yaml.rules.checks.context import Context
from cachedit_yaml.yaml.diagnostics import Diagnostic, Edit, Span, show
from cachedit_yaml.yaml.document import Document


def check_version(data: Mapping[str, Any], document: Document | None = None) -> list[Diagnostic]:
    """Check the version of the language, before anything else.

    Returns:
        At most one diagnostic: ``schema-version`` says that nothing else makes sense to check.
    """
    context = Context(data, document)
    if "schema" not in data:
        line = f"schema: {LANGUAGE_VERSION}"
        start = _start(document)
        context.report(
            "missing-key",
            "the file does not say which version of the language it is written for",
            (),
            hint=f"add '{line}' as the first line",
            fix=(Edit(start, f"{line}\n"),) if start is not None else (),
        )
        return context.diagnostics
    version = data["schema"]
    if isinstance(version, bool) or not isinstance(version, (int, float)):
        return []
    if version > LANGUAGE_VERSION:
        context.report(
            "schema-version",
            f"the file is written for version {show(version)} of the language, and this release "
            f"of cachedit-yaml reads version {LANGUAGE_VERSION}",
            ("schema",),
            hint=f"install a release that reads version {show(version)}: "
            "pip install --upgrade cachedit-yaml",
        )
    return context.diagnostics


def check_order(data: Mapping[str, Any], document: Document) -> list[Diagnostic]:
    """Check that `schema` comes first in the file itself."""
    if "schema" not in data or next(iter(data)) == "schema":
        return []
    context = Context(data, document)
    key, start = document.key_span(("schema",)), _start(document)
    fix: tuple[Edit, ...] = ()
    if key is not None and start is not None and key.column == 1:
        line = document.lines[key.line - 1]
        # A line that holds nothing else can be moved; a comment on it goes along.
        value = document.value_span(("schema",))
        if value is not None and value.line == value.end_line == key.line:
            whole = Span(key.path, key.line, 1, key.line + 1, 1)
            fix = (Edit(start, f"{line}\n"), Edit(whole, ""))
    context.report(
        "key-order",
        "'schema' is not the first key",
        ("schema",),
        key=True,
        fix=fix,
        hint="move it to the top",
    )
    return context.diagnostics


def _start(document: Document | None) -> Span | None:
    """The empty place before the first key, where that begins a line."""
    if document is None or not document.data:
        return None
    first = document.key_span((next(iter(document.data)),))
    if first is None or first.column != 1:
        return None
    return Span(first.path, first.line, 1, first.line, 1)
