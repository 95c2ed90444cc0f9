"""Check plain data against the published schemas, and build the language's dataclasses from it.

jsonschema finds what is wrong. Here its errors become diagnostics: with the place in the file, in
the words of the language, and with advice. It serves YAML documents (with positions) and dicts
that a user passes from Python (without).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from cachedit_yaml.language.build import build
from cachedit_yaml.language.misplaced import FOREIGN
from cachedit_yaml.language.report import MOST, Report
from cachedit_yaml.language.schemas import Schema, schema_of
from cachedit_yaml.language.wording import kind
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath, show
from cachedit_yaml.yaml.document import Document

T = TypeVar("T")


def structure(
    cls: type[T], data: object, document: Document | None = None, prefix: KeyPath = ()
) -> tuple[T | None, list[Diagnostic]]:
    """Build a dataclass of the language from plain data.

    Args:
        cls: the dataclass.
        data: a mapping, as YAML or Python gives it.
        document: the document that the data comes from, for positions.
        prefix: the keys that lead to `data`.

    Returns:
        The object, or None if there are errors, and all of them.
    """
    found = check(schema_of(cls), data, document, prefix)
    if found:
        return None, found
    assert isinstance(data, Mapping)
    return assemble(cls, data, document)


def assemble(
    cls: type[T], data: Mapping[str, Any], document: Document | None = None
) -> tuple[T | None, list[Diagnostic]]:
    """Build a dataclass from parts that were checked each for itself.

    What may still be wrong is that something is missing, or is taken away where nothing is.

    Args:
        cls: the dataclass.
        data: the parts, laid over each other.
        document: the document that the data comes from, for positions.

    Returns:
        As :func:`structure`.
    """
    result, missing = build(cls, data)
    if not missing:
        return result, []
    report = Report(schema_of(cls), data, document, ())
    for path in missing:
        report.missing(path)
    return None, report.in_order()


def check(
    schema: Schema,
    data: object,
    document: Document | None = None,
    prefix: KeyPath = (),
    foreign: Mapping[str, str] = FOREIGN,
) -> list[Diagnostic]:
    """Check plain data against a schema.

    Args:
        schema: the schema, without references.
        data: the data.
        document: the document that the data comes from, for positions.
        prefix: the keys that lead to `data`.
        foreign: names from elsewhere, and what to write instead.

    Returns:
        Everything that is wrong, in the order of the data.
    """
    from cachedit_yaml.language.checker import iter_errors  # takes time to import

    report = Report(schema, data, document, prefix, foreign)
    for error in iter_errors(schema, data):
        report.add(error)
        if len(report.found) >= MOST:
            break
    if document is None or not document.sources:
        _python(report, data, (), set())
    return report.in_order()


def _python(report: Report, value: object, path: KeyPath, seen: set[int]) -> None:
    """Report what stands in a user's dict and in no YAML: keys and values of other types."""
    if isinstance(value, (Mapping, list, tuple)):
        if id(value) in seen:  # also where it holds itself
            return
        seen.add(id(value))
    if isinstance(value, Mapping):
        for name, item in value.items():
            if isinstance(name, str):
                _python(report, item, (*path, name), seen)
            else:
                message = f"the key {show(name)} is not text"
                report.report("non-string-key", message, path, at_key=True)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _python(report, item, (*path, index), seen)
    elif not (value is None or isinstance(value, (str, bool, int, float))):
        report.report(
            "wrong-type",
            f"{report.label(path)} is {kind(value)}",
            path,
            expected="text, a number, true, false, null, a list or a mapping",
        )
