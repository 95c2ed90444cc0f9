"""For people: each finding with its line, then one line that sums up."""

from __future__ import annotations

from typing import TextIO

from cachedit_yaml.cli.output import count, print_diagnostics
from cachedit_yaml.cli.validation.report import Report


def write(report: Report, stream: TextIO) -> None:
    """Print the findings and the summary."""
    write_findings(report, stream)
    stream.write(summary(report) + "\n")


def write_findings(report: Report, stream: TextIO) -> None:
    """Print the findings alone."""
    print_diagnostics(report.everything(), report.texts, stream)


def summary(report: Report) -> str:
    """``3 files, 1 error, 2 warnings``."""
    found = report.counts
    parts = [count(len(report.files), "file")]
    parts += [count(found[severity], severity) for severity in found if found[severity]]
    if len(parts) == 1:
        parts.append("no problems")
    if report.fixed:
        parts.append(f"{report.fixed} mended")
    return ", ".join(parts)
