"""Diagnostics as text for people, with the lines of the files that they are about."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Mapping
from typing import Final

from cachedit_yaml.rules.catalogue import RULES
from cachedit_yaml.yaml.diagnostics import Diagnostic, Span, plain, split_lines

_COLORS: Final = {
    "error": "\x1b[1;31m",
    "warning": "\x1b[1;33m",
    "hint": "\x1b[1;36m",
    "bold": "\x1b[1m",
}
_RESET: Final = "\x1b[0m"
_WIDTH: Final = 120


def render_in(diagnostic: Diagnostic, sources: Mapping[str, str], color: bool = False) -> str:
    """Show a diagnostic with lines of several files.

    Args:
        diagnostic: what to show.
        sources: texts of files by the path that spans carry.
        color: whether to use ANSI colours.

    Returns:
        Several lines without a final line break.
    """

    def paint(text: str, style: str) -> str:
        return f"{_COLORS[style]}{text}{_RESET}" if color else text

    label = paint(f"{diagnostic.severity}[{diagnostic.code}]", diagnostic.severity)
    where, code = paint(diagnostic.location, "bold"), RULES[diagnostic.code].id
    out = [f"{where}: {label}: {plain(diagnostic.message)} ({code})"]
    advice = plain(diagnostic.advice)
    spans = [s for s in (diagnostic.span, *(s for _, s in diagnostic.related)) if s is not None]
    gutter = max((len(str(s.line)) for s in spans), default=1) + 3
    pad = " " * gutter
    shown = _snippet(diagnostic.span, sources, gutter)
    if shown is not None:
        source_line, marks = shown
        out.append(source_line)
        marks = paint(marks, diagnostic.severity)
        out.append(f"{pad} | {marks} {advice}".rstrip())
    elif advice:
        out.append(f"{pad} = {advice}")
    for text, span in diagnostic.related:
        out.append(f"{pad} = {plain(f'{span}: {text}')}")
        shown = _snippet(span, sources, gutter)
        if shown is not None:
            out += [shown[0], f"{pad} | {shown[1].replace('^', '-')}"]
    return "\n".join(out)


def _snippet(span: Span | None, sources: Mapping[str, str], gutter: int) -> tuple[str, str] | None:
    text = sources.get(span.path) if span is not None else None
    if span is None or not text:
        return None
    lines = _lines(text)
    if not 1 <= span.line <= len(lines):
        return None
    line = lines[span.line - 1]
    start = min(span.column - 1, len(line))
    end = span.end_column - 1 if span.end_line == span.line else len(line.rstrip())
    end = min(max(end, start + 1), max(len(line), start + 1))
    if len(line) > _WIDTH:
        cut = max(0, min(start - _WIDTH // 4, len(line) - _WIDTH))
        line, start, end = line[cut : cut + _WIDTH], start - cut, min(end - cut, _WIDTH)
    # Anything that moves the cursor would part the marks from what they mark.
    line = "".join(c if c.isprintable() else " " for c in line).replace("##[", "## ")
    before, marked = line[:start], line[start:end]
    marks = " " * _cells(before) + "^" * max(1, _cells(marked))
    return f"{span.line:>{gutter}} | {line.rstrip()}", marks


@functools.lru_cache(maxsize=16)
def _lines(text: str) -> list[str]:
    return split_lines(text)


def _cells(text: str) -> int:
    """Columns of a terminal that the text takes: wide East Asian characters take two."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
