"""Say in plain words why a file is not YAML.

The parsers report what they were doing when they gave up, which is seldom what is wrong. The
line itself tells more: a tab, a colon without a space, a quote that is never closed.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import yaml

from cachedit_yaml.yaml.diagnostics import Diagnostic, Span, split_lines

_KEY_WITHOUT_SPACE: Final = re.compile(r"^\s*(?:- +)?([\w.\"'-]+):(\S+)\s*(?:#.*)?$")
_ITEM_WITHOUT_SPACE: Final = re.compile(r"^\s*-[^\s-]")
#: Characters that look like what YAML needs and are not: where they matter, their names, what
#: to write. Within a text they are right, so the pattern has to be narrow.
_LOOKALIKES: Final = (
    (
        re.compile("^[ \t]*([\u00a0\u3000])"),
        "a space that is not the ordinary one",
        "indent with ordinary spaces",
    ),
    (re.compile("^[^:]*?(\uff1a)[^:]*$"), "a full-width colon", "write ':' and a space"),
    (re.compile("[\\[{][^\"']*(\uff0c)"), "a full-width comma", "write ','"),
    (
        re.compile("(?:: |- |[\\[{,] ?)([\u201c\u201d\u2018\u2019])"),
        "a curly quote",
        "write '\"' or \"'\"",
    ),
)


class _Finding(NamedTuple):
    row: int
    column: int
    message: str
    hint: str
    code: str = "syntax"


def explain(error: yaml.MarkedYAMLError, name: str, text: str) -> Diagnostic:
    """Turn an error of the parser into a diagnostic.

    Args:
        error: what PyYAML or libyaml raised.
        name: the file as messages call it.
        text: the text of the file.

    Returns:
        A diagnostic with the code ``syntax``, ``anchor`` or ``directive``.
    """
    lines = split_lines(text)
    found = _diagnose(error, lines)
    row, column = found.row, found.column
    # The end of the file is an empty line behind the last one: show the last one instead.
    while row > 0 and (row >= len(lines) or not lines[row].strip()):
        row -= 1
        column = len(lines[row]) if row < len(lines) else 0
    span = Span(name, row + 1, column + 1, row + 1, column + 2)
    return Diagnostic(found.code, found.message, span=span, hint=found.hint)


def _diagnose(error: yaml.MarkedYAMLError, lines: list[str]) -> _Finding:
    problem, context = error.problem or "cannot be read", error.context or ""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark is not None else (0, 0)
    start = error.context_mark or mark
    begin, begin_column = (start.line, start.column) if start is not None else (0, 0)
    current = lines[line] if line < len(lines) else ""

    for row, text in enumerate(lines):
        if text.startswith("<<<<<<< "):
            return _Finding(
                row, 0, "the conflict of a merge begins here", "keep one side, remove the marks"
            )
    tab = current[: len(current) - len(current.lstrip())].find("\t")
    if tab >= 0:
        return _Finding(line, tab, "a tab in the indentation", "indent with spaces only")
    lookalike = _lookalike(lines, begin, line)
    if lookalike is not None:
        return lookalike
    if "quoted scalar" in context:
        if "escape" in problem:
            return _Finding(
                line,
                column,
                "an escape in double quotes that YAML does not know",
                "write \\\\ for a backslash, or use single quotes",
            )
        return _Finding(
            begin,
            begin_column,
            "the quote that begins here is never closed",
            "close it, or put the text in the other kind of quotes",
        )
    if "flow sequence" in context or "flow mapping" in context:
        bracket, close = ("[", "]") if "sequence" in context else ("{", "}")
        return _Finding(
            begin,
            begin_column,
            f"the '{bracket}' that begins here is not closed",
            f"part the items with ',' and end with '{close}'",
        )
    if "simple key" in context:
        return _without_colon(lines, begin, begin_column)
    if "mapping values are not allowed" in problem:
        return _unexpected_colon(lines, line, column)
    if "alias" in problem + context or "anchor" in problem + context:
        return _Finding(
            line,
            column,
            "'*' begins an alias, and no anchor has this name",
            "put text that begins with '*' or '&' in quotes",
            "anchor",
        )
    if "cannot start any token" in problem:
        # libyaml leaves out which character; the line has it.
        char = current[column] if column < len(current) else ""
        return _Finding(line, column, f"{char!r} cannot begin a value", "put the text in quotes")
    if current.startswith("%") or "directive" in problem + context:
        return _Finding(
            line, 0, "a line that begins with '%' is a YAML directive", "remove it", "directive"
        )
    if "document start" in problem:
        return _Finding(
            line,
            column,
            "the document cannot begin or go on here",
            "bring the line to the indentation of the first one",
        )
    if "block" in context:
        return _misplaced(current, line, column)
    return _Finding(line, column, f"not YAML: {problem}", "check the line and the one above it")


def _lookalike(lines: list[str], first: int, last: int) -> _Finding | None:
    # The parser often notices only on the line below.
    for row in range(max(0, first - 1), min(last + 1, len(lines))):
        for pattern, what, hint in _LOOKALIKES:
            # No line of an adapter is longer, and these patterns take their time on longer ones.
            match = pattern.search(lines[row][:1000].split(" #")[0])
            if match:
                return _Finding(row, match.start(1), f"{what} where YAML needs the ASCII one", hint)
    return None


def _without_colon(lines: list[str], row: int, column: int) -> _Finding:
    line = lines[row] if row < len(lines) else ""
    match = _KEY_WITHOUT_SPACE.match(line)
    if match:
        return _no_space(row, match)
    if _ITEM_WITHOUT_SPACE.match(line):
        return _Finding(row, column, "no space after the dash", f"write '- {line.strip()[1:]}'")
    words = line.split("#")[0].strip()
    return _Finding(row, column, "this line has no colon", f"write '{words}: VALUE'")


def _no_space(row: int, match: re.Match[str]) -> _Finding:
    return _Finding(
        row, match.end(1), "no space after the colon", f"write '{match[1]}: {match[2]}'"
    )


def _unexpected_colon(lines: list[str], row: int, column: int) -> _Finding:
    line = lines[row] if row < len(lines) else ""
    if ": " in line[:column]:
        return _Finding(
            row,
            column,
            "a second colon in one line",
            "put the text in quotes, or begin a new line for the inner key",
        )
    indent = len(line) - len(line.lstrip())
    for above in range(row - 1, -1, -1):
        text = lines[above].split(" #")[0].rstrip()
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        # A line such as `a:1` is text, so the next line's colon is the one that surprises.
        match = _KEY_WITHOUT_SPACE.match(text)
        if match:
            return _no_space(above, match)
        if len(text) - len(text.lstrip()) < indent:
            return _Finding(
                row,
                indent,
                "this line is indented deeper than the one above, which has a value already",
                "bring the keys of one mapping to the same column",
            )
        break
    else:
        return _Finding(row, column, "a colon cannot stand here", "put text with a colon in quotes")
    return _Finding(
        row,
        indent,
        "a key cannot begin here",
        "check that the line above ends its value and has a colon",
    )


def _misplaced(line: str, row: int, column: int) -> _Finding:
    if line.strip()[:1] in ("}", "]"):
        return _Finding(row, column, f"{line.strip()[0]!r} closes nothing", "remove it")
    if column > len(line) - len(line.lstrip()):
        rest = line[column:].strip()
        return _Finding(
            row,
            column,
            f"{rest[:40]!r} follows a value that has already ended",
            "put the whole value in quotes, or remove what follows",
        )
    return _Finding(
        row,
        column,
        "this line's indentation fits none of the lines above",
        "bring it to the same column as its neighbours",
    )
