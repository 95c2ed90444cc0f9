"""GitHub annotations: lines that a workflow turns into remarks on a pull request."""

from __future__ import annotations

from typing import Final, TextIO

from cachedit_yaml.cli.validation.report import Report
from cachedit_yaml.rules.catalogue import RULES
from cachedit_yaml.yaml.diagnostics import Diagnostic, plain

_COMMANDS: Final = {"error": "error", "warning": "warning", "hint": "notice"}


def write(report: Report, stream: TextIO) -> None:
    """Print one command per finding."""
    for item in report.everything():
        stream.write(command(item) + "\n")


def command(item: Diagnostic) -> str:
    """The workflow command of one finding."""
    lines = [item.message, *([item.advice] if item.advice else [])]
    lines += [f"{span}: {why}" for why, span in item.related]
    text = "\n".join(map(plain, lines))
    values = {}
    if item.span is not None:
        values = {"file": item.span.path, "line": item.span.line, "endLine": item.span.end_line}
        if item.span.line == item.span.end_line:
            # GitHub refuses columns for findings of several lines.
            values |= {"col": item.span.column, "endColumn": item.span.end_column}
    values["title"] = f"{RULES[item.code].id} {item.code}"
    shown = ",".join(f"{name}={_property(plain(str(value)))}" for name, value in values.items())
    return f"::{_COMMANDS[item.severity]} {shown}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
