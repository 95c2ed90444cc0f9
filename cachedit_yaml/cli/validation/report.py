"""What a run of the validator found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cachedit_yaml.yaml.diagnostics import Diagnostic


@dataclass
class FileResult:
    """One file.

    Attributes:
        name: the file as messages call it.
        kind: what it holds: ``adapter``, ``defaults``, ``probe``, or the engine whose config it is.
        path: the file; None for stdin.
        diagnostics: what was found in it.
    """

    name: str
    kind: str
    path: Path | None
    diagnostics: list[Diagnostic]


@dataclass
class Report:
    """All files.

    Attributes:
        files: the files in the order in which they were named.
        problems: what belongs to no file.
        texts: texts of files by the names that spans carry.
        fixed: findings that were mended.
        left: files that could not be mended, each with the reason.
    """

    files: list[FileResult] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    fixed: int = 0
    left: dict[str, str] = field(default_factory=dict)

    def everything(self) -> Iterator[Diagnostic]:
        """Every finding."""
        yield from self.problems
        for file in self.files:
            yield from file.diagnostics

    @property
    def counts(self) -> Mapping[str, int]:
        """Findings by severity, all severities."""
        found = {"error": 0, "warning": 0, "hint": 0}
        for item in self.everything():
            found[item.severity] += 1
        return found
