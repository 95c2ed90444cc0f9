"""For programs: everything, in a form with a version."""

from __future__ import annotations

import json
from typing import Any, Final, TextIO

from cachedit_yaml.cli.validation.report import Report

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
                "diagnostics": [item.as_dict() for item in file.diagnostics],
            }
            for file in report.files
        ],
        "problems": [item.as_dict() for item in report.problems],
        "summary": {
            "files": len(report.files),
            "errors": found["error"],
            "warnings": found["warning"],
            "hints": found["hint"],
            "fixed": report.fixed,
        },
    }


def write(report: Report, stream: TextIO) -> None:
    """Print the report as JSON."""
    stream.write(json.dumps(as_data(report), indent=2, ensure_ascii=False) + "\n")
