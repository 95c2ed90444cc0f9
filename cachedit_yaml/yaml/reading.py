"""What the steps of reading a file share: its document, findings, how much may still come."""

from __future__ import annotations

from typing import Any, Final

from cachedit_yaml.yaml.diagnostics import Diagnostic, Span
from cachedit_yaml.yaml.document import Document

#: Limits far beyond any adapter.
MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 32
MAX_NODES: Final = 20_000
MAX_ALIASES: Final = 64


class StopReading(Exception):  # noqa: N818 - no error, but the way out of a loop
    """A limit is reached: nothing more is read."""


class Reading:
    """One file that is being read.

    Attributes:
        document: what becomes of it.
        diagnostics: what was found so far.
        nodes: how many values were counted in this step.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.diagnostics: list[Diagnostic] = []
        self.nodes = 0

    def report(self, code: str, message: str, span: Span | None = None, **more: Any) -> None:
        """Note a finding; without a place it stands at the beginning of the file."""
        span = span or Span(self.document.name, 1, 1, 1, 2)
        self.diagnostics.append(Diagnostic(code, message, span=span, **more))

    def stop(self, code: str, message: str, span: Span | None = None, **more: Any) -> StopReading:
        """Note a finding after which nothing more is read; raise what this returns."""
        self.report(code, message, span, **more)
        return StopReading()

    def span(self, start: Any, end: Any) -> Span:
        """The stretch between two marks of the parser, which count from 0."""
        return Span(
            self.document.name, start.line + 1, start.column + 1, end.line + 1, end.column + 1
        )

    def count(self, start: Any, end: Any) -> None:
        """Count one more value.

        Raises:
            StopReading: there are too many.
        """
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self.stop(
                "too-large",
                f"more than {MAX_NODES} values",
                self.span(start, end),
                hint="aliases count with everything that they repeat",
            )
