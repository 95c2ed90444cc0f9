"""Comments that silence findings: ``# cachedit-yaml: ignore[CY205] the reason``.

Behind a line the comment holds for that line, on a line of its own for the next one that is not
a comment. ``ignore-file[...]`` holds for the whole file. Several codes are parted by commas, and
a name (``never-hits``) does as well as a code.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from cachedit_yaml.rules.catalogue import RULES, Level, Rule, find_rule, finding
from cachedit_yaml.yaml.diagnostics import Diagnostic, Edit, Span, nearest
from cachedit_yaml.yaml.document import Document

_COMMENT: Final = re.compile(
    r"(?:^|(?<=\s))#\s*cachedit-yaml:\s*(ignore(?:-file)?)\s*\[([^\]]*)\][\s:-]*(.*)$"
)
_MARK: Final = "cachedit-yaml:"
#: Nobody reads more.
_MOST: Final = 1000
_MOST_HINTS: Final = 50


@dataclass
class _Ignore:
    """One rule that one comment silences."""

    rule: Rule
    span: Span
    line: int | None
    edit: Edit | None
    used: bool = field(default=False)


def apply_ignores(
    diagnostics: list[Diagnostic], document: Document, levels: Collection[Level]
) -> list[Diagnostic]:
    """Take out what comments silence, and report on the comments themselves.

    Args:
        diagnostics: the findings of one file.
        document: the file.
        levels: the levels of rules that ran; an ignore of another level is not unused.

    Returns:
        The findings that are left, in the order of the file.
    """
    if _MARK not in document.text:
        return diagnostics
    found: list[Diagnostic] = []
    ignores = list(_ignores(document, found))
    by_place: dict[tuple[str, int | None], list[_Ignore]] = {}
    for ignore in ignores:
        by_place.setdefault((ignore.rule.name, ignore.line), []).append(ignore)
    left: list[Diagnostic] = []
    for item in diagnostics:
        here = item.span if item.span is not None and item.span.path == document.name else None
        places = ((item.code, None), (item.code, here.line)) if here is not None else ()
        silencing = [ignore for place in places for ignore in by_place.get(place, ())]
        for ignore in silencing:
            ignore.used = True
        if not silencing:
            left.append(item)
    for ignore in ignores:
        if len(found) < _MOST and not ignore.used and ignore.rule.level in levels:
            found.append(
                finding(
                    "unused-ignore",
                    f"nothing to silence here: {ignore.rule.id} ({ignore.rule.name}) is not found",
                    span=ignore.span,
                    hint="remove the comment",
                    fix=(ignore.edit,) if ignore.edit is not None else (),
                )
            )

    def place(item: Diagnostic) -> tuple[bool, int, int]:
        span = item.span
        return (
            (False, 0, 0) if span is None else (span.path != document.name, span.line, span.column)
        )

    return sorted(left + found[:_MOST], key=place)


@functools.cache
def _names() -> tuple[str, ...]:
    return (*RULES, *(rule.id for rule in RULES.values()))


def _ignores(document: Document, found: list[Diagnostic]) -> Iterator[_Ignore]:
    lines = document.lines
    following = _following(lines)
    texts = _texts(document)
    for row, line in enumerate(lines, 1):
        if _MARK not in line:
            continue
        match = _COMMENT.search(line)
        if match is None or _inside(texts.get(row, ()), row, match.start()):
            continue
        span = Span(document.name, row, match.start() + 1, row, len(line.rstrip()) + 1)
        if not match[3].strip():
            found.append(
                finding(
                    "ignore-without-reason",
                    "the comment does not say why",
                    span=span,
                    hint="write the reason behind the bracket",
                )
            )
        codes = [code.strip() for code in match[2].split(",")]
        edit = _removal(span, lines, len(codes))
        target = None
        if match[1] == "ignore":
            target = _target(lines, following, row, match.start())
        for code in codes:
            rule = find_rule(code)
            if rule is None:
                # Nobody reads a thousand hints, and looking for near names takes its time.
                near = nearest(code, _names()) if len(found) < _MOST_HINTS else []
                found.append(
                    finding(
                        "unknown-ignore",
                        f"there is no rule {code!r}",
                        span=span,
                        hint=f"did you mean {near[0]!r}?"
                        if near
                        else "write a code such as CY205, or the name of a rule",
                    )
                )
            elif not rule.ignorable:
                found.append(
                    finding(
                        "error-ignored",
                        f"{rule.id} ({rule.name}) is an error, which no comment can silence",
                        span=span,
                        hint="mend it, and remove the comment",
                    )
                )
            else:
                yield _Ignore(rule, span, target, edit)


def _following(lines: list[str]) -> list[int]:
    """For each line the number of the next one that holds more than a comment; 0 for none."""
    result, later = [0] * len(lines), 0
    for index in range(len(lines) - 1, -1, -1):
        result[index] = later
        text = lines[index].lstrip()
        if text and not text.startswith("#"):
            later = index + 1
    return result


def _target(lines: list[str], following: list[int], row: int, column: int) -> int:
    """The line that a comment is about."""
    before = lines[row - 1][:column].strip()
    if before and not before.startswith("#"):
        return row
    return following[row - 1] or row


def _removal(span: Span, lines: list[str], codes: int) -> Edit | None:
    """The edit that takes a comment out; None where it also says something else."""
    if codes > 1:
        return None
    before = lines[span.line - 1][: span.column - 1]
    if not before.strip():
        return Edit(Span(span.path, span.line, 1, span.line + 1, 1), "")
    return Edit(
        span._replace(column=len(before.rstrip()) + 1, end_column=len(lines[span.line - 1]) + 1), ""
    )


def _texts(document: Document) -> Mapping[int, list[Span]]:
    """The values that are texts, by their lines."""
    found: dict[int, list[Span]] = {}
    for path, (_, value) in document.positions.items():
        if value.path == document.name and isinstance(_at(document.data, path), str):
            for row in range(value.line, value.end_line + 1):
                found.setdefault(row, []).append(value)
    return found


def _inside(texts: Iterable[Span], row: int, column: int) -> bool:
    """Whether a place lies within a text, where '#' begins no comment."""
    here = (row, column + 1)
    return any(
        (value.line, value.column) <= here < (value.end_line, value.end_column) for value in texts
    )


def _at(data: object, path: tuple[str | int, ...]) -> object:
    for step in path:
        if isinstance(data, dict) and isinstance(step, str):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        else:
            return None
    return data
