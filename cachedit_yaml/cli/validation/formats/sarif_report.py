"""SARIF 2.1.0, which code scanning services read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, Final, TextIO
from urllib.parse import quote

import cachedit_yaml
from cachedit_yaml.cli.output import to_json
from cachedit_yaml.cli.validation.report import Report
from cachedit_yaml.rules.catalogue import RULES, Rule
from cachedit_yaml.yaml.diagnostics import Diagnostic, Span

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS: Final = {"error": "error", "warning": "warning", "hint": "note"}


def as_data(report: Report) -> dict[str, Any]:
    """The report as one run of SARIF."""
    found = list(report.everything())
    codes = {item.code for item in found}
    used = [rule for rule in RULES.values() if rule.name in codes]
    places = {rule.name: index for index, rule in enumerate(used)}
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "cachedit-yaml",
                        "version": cachedit_yaml.__version__,
                        "rules": [_rule(rule) for rule in used],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "artifacts": [{"location": {"uri": _uri(file.name)}} for file in report.files],
                "results": [_result(item, places[item.code]) for item in found],
            }
        ],
    }


def write(report: Report, stream: TextIO) -> None:
    """Print the report as SARIF."""
    stream.write(to_json(as_data(report)) + "\n")


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {
            "text": f"{rule.fix} See {rule.address}, or what `cachedit-yaml validate --explain "
            f"{rule.id}` prints."
        },
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
    }


def _result(item: Diagnostic, index: int) -> dict[str, Any]:
    text = f"{item.message}; {item.advice}" if item.advice else item.message
    result: dict[str, Any] = {
        "ruleId": RULES[item.code].id,
        "ruleIndex": index,
        "level": _LEVELS[item.severity],
        "message": {"text": text},
        "locations": _locations([item.span] if item.span is not None else []),
    }
    if item.related:
        result["relatedLocations"] = [
            {"id": number, **_location(span), "message": {"text": text}}
            for number, (text, span) in enumerate(item.related, 1)
        ]
    if item.fix and item.span is not None:
        result["fixes"] = [
            {
                "artifactChanges": [
                    {
                        "artifactLocation": {"uri": _uri(item.span.path)},
                        "replacements": [
                            {
                                "deletedRegion": _region(edit.span),
                                "insertedContent": {"text": edit.text},
                            }
                            for edit in item.fix
                        ],
                    }
                ]
            }
        ]
    return result


def _locations(spans: Sequence[Span]) -> list[dict[str, Any]]:
    return [_location(span) for span in spans]


def _location(span: Span) -> dict[str, Any]:
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(span.path)},
            "region": _region(span),
        }
    }


def _region(span: Span) -> dict[str, int]:
    return {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }


def _uri(path: str) -> str:
    """A path as a reference, relative where the path is."""
    if path.startswith("<"):
        return quote(path.strip("<>"))
    posix = PurePath(path).as_posix() if os.sep != "/" else path
    prefix = "file://" if posix.startswith("/") else ""
    return prefix + quote(os.fsencode(posix))
