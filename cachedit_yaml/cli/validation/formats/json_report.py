"""For programs: everything, in a form with a version."""

from __future__ import annotations

from typing import Any, Final, TextIO

from cachedit_yaml.cli.output import to_json
from cachedit_yaml.cli.validation.report import Report
from cachedit_yaml.rules.catalogue import RULES
from cachedit_yaml.yaml.diagnostics import Diagnostic, Span

#: Raised when a field changes its meaning or goes; new fields do not raise it.
VERSION: Final = 1


def as_data(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    found = report.counts
    return {
        "version": VERSION,
        "files": [
            {
                "path": file.name,
                "kind": file.kind,
                "diagnostics": [_finding(item) for item in file.diagnostics],
            }
            for file in report.files
        ],
        "problems": [_finding(item) for item in report.problems],
        "summary": {
            "files": len(report.files),
            "errors": found["error"],
            "warnings": found["warning"],
            "hints": found["hint"],
            "fixed": report.fixed,
        },
    }


def _finding(item: Diagnostic) -> dict[str, Any]:
    rule = RULES[item.code]
    return {
        "id": rule.id,
        "code": item.code,
        "severity": item.severity,
        "message": item.message,
        "key_path": list(item.key_path),
        "span": _place(item.span),
        "expected": item.expected,
        "hint": item.hint,
        "related": [{"message": text, **_place(span)} for text, span in item.related],
        "fix": [{"text": edit.text, **_place(edit.span)} for edit in item.fix],
        "documentation": rule.address,
    }


def _place(span: Span | None) -> dict[str, Any]:
    return {} if span is None else span._asdict()


def write(report: Report, stream: TextIO) -> None:
    """Print the report as JSON."""
    stream.write(to_json(as_data(report)) + "\n")
