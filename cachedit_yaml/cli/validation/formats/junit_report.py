"""JUnit XML: one test case per file, for services that show test results."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, TextIO
from xml.sax.saxutils import escape, quoteattr

from cachedit_yaml.cli.validation.report import Report
from cachedit_yaml.rules.catalogue import RULES
from cachedit_yaml.yaml.diagnostics import Diagnostic, plain

#: What XML 1.0 cannot hold, not even escaped.
_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(report: Report, stream: TextIO) -> None:
    """Print the report; errors are failures, the rest stands in the output of its case."""
    cases = [(file.name, file.diagnostics) for file in report.files]
    if report.problems:
        cases.insert(0, ("search path", report.problems))
    failures = sum(any(item.severity == "error" for item in found) for _, found in cases)
    stream.write('<?xml version="1.0" encoding="utf-8"?>\n')
    counts = f'tests="{len(cases)}" failures="{failures}" errors="0" skipped="0"'
    stream.write(f'<testsuites name="cachedit-yaml" {counts}>\n')
    stream.write(f'  <testsuite name="cachedit-yaml validate" {counts}>\n')
    for name, found in cases:
        stream.write(_case(name, found))
    stream.write("  </testsuite>\n</testsuites>\n")


def _case(name: str, found: Iterable[Diagnostic]) -> str:
    errors = [item for item in found if item.severity == "error"]
    others = [item for item in found if item.severity != "error"]
    head = f'    <testcase classname="cachedit-yaml" name={_attribute(plain(name))}'
    if not errors and not others:
        return f"{head}/>\n"
    lines = [f"{head}>\n"]
    if errors:
        first = f"{errors[0].location}: {plain(errors[0].message)}"
        text = "\n".join(item.summary() for item in errors)
        lines.append(
            f"      <failure type={_attribute(RULES[errors[0].code].id)} "
            f"message={_attribute(first)}>{_text(text)}</failure>\n"
        )
    if others:
        text = "\n".join(item.summary() for item in others)
        lines.append(f"      <system-out>{_text(text)}</system-out>\n")
    lines.append("    </testcase>\n")
    return "".join(lines)


def _text(text: str) -> str:
    return escape(_FORBIDDEN.sub("\ufffd", text))


def _attribute(text: str) -> str:
    return quoteattr(_FORBIDDEN.sub("\ufffd", text))
