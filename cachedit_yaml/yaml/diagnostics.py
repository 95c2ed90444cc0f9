"""What is wrong, where, and what to do about it.

A :class:`Diagnostic` carries the path of keys first and the place in the file second, so that
the same check serves YAML files and plain Python dicts.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

#: No name is longer, so nothing is near to what is.
LONGEST_NAME: Final = 128
KeyPath: TypeAlias = tuple[str | int, ...]
Severity: TypeAlias = Literal["error", "warning", "hint"]

_short = reprlib.Repr()
_short.maxstring = 60
_short.maxother = 60
_short.maxlevel = 2


class Span(NamedTuple):
    """A stretch of a file. Lines and columns count from 1; the end column is exclusive."""

    path: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


class Edit(NamedTuple):
    """A replacement of a stretch of a file; an empty stretch inserts."""

    span: Span
    text: str


@dataclass(frozen=True)
class Diagnostic:
    """One thing that is wrong (or odd) in an adapter or in settings.

    Attributes:
        code: the name of a rule of the catalogue.
        message: what is wrong, in one sentence without a full stop.
        key_path: the keys that lead there.
        span: the place in the file; None for plain Python data.
        severity: ``error`` (cannot be used), ``warning`` (surely not meant) or ``hint``.
        expected: what is allowed in this place.
        hint: what to do.
        related: other places that matter, each with a word on why.
        fix: edits that mend it, where that is safe.
    """

    code: str
    message: str
    key_path: KeyPath = ()
    span: Span | None = None
    severity: Severity = "error"
    expected: str | None = None
    hint: str | None = None
    related: tuple[tuple[str, Span], ...] = ()
    fix: tuple[Edit, ...] = ()

    @property
    def location(self) -> str:
        """``file:line:column``, or the path of keys where there is no file."""
        return plain(str(self.span) if self.span is not None else format_path(self.key_path))

    @property
    def advice(self) -> str:
        """What was expected and what to do, in one line; empty if there is nothing to say."""
        parts = [f"expected {self.expected}"] if self.expected else []
        if self.hint:
            parts.append(self.hint)
        return "; ".join(parts)

    def __str__(self) -> str:
        return f"{self.location}: {self.severity}[{self.code}]: {plain(self.message)}"

    def summary(self) -> str:
        """``str(self)`` plus advice and related places, on lines of their own."""
        lines = [str(self)]
        if self.advice:
            lines.append(f"    {plain(self.advice)}")
        lines += [f"    {plain(f'{span}: {text}')}" for text, span in self.related]
        return "\n".join(lines)


def plain(text: str) -> str:
    """A text as one line in which every character can be seen.

    What comes from a file or from its name reaches terminals and the logs of CI only like this:
    what moves the cursor, changes colours, turns the direction of writing, ends a line or cannot be
    seen is written as an escape; and nothing is a command of GitHub's runner, which takes ``::`` at
    the beginning of a line and ``##[`` anywhere.
    """
    if not text.isprintable():
        text = "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
        )
    text = text.replace("##[", r"#\x23[")
    if text.lstrip().startswith("::"):
        text = text.replace("::", r":\x3a", 1)
    return text


def split_lines(text: str) -> list[str]:
    """Split at line breaks as YAML 1.2 knows them (not at U+2028 and the like)."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def format_path(path: Iterable[str | int]) -> str:
    """Write a path of keys as ``profiles.fast.scm.mask[3]``."""
    out = ""
    for step in path:
        if isinstance(step, int):
            out += f"[{step}]"
        else:
            out += f".{step}" if out else step
    return out or "adapter"


def nearest(word: str, names: Iterable[str], limit: int = 1) -> list[str]:
    """The names most like a word, best first; spelling in another case counts as the same."""
    if len(word) > LONGEST_NAME:
        return []
    by_folded: dict[str, str] = {}
    for name in names:
        by_folded.setdefault(_fold(name), name)
    # One slip weighs more in a short word.
    cutoff = 0.6 if len(word) <= 4 else 0.7
    found = difflib.get_close_matches(_fold(word), by_folded, n=limit, cutoff=cutoff)
    return [by_folded[item] for item in found]


def _fold(name: str) -> str:
    return name.casefold().replace("-", "_").replace(" ", "_")


def did_you_mean(word: str, names: Iterable[str]) -> str | None:
    """``did you mean 'x'?``, or None when nothing is near."""
    found = nearest(word, names)
    return f"did you mean {found[0]!r}?" if found else None


def or_near(word: str, names: Iterable[str]) -> str:
    """The same as the end of a sentence; nothing when nothing is near."""
    hint = did_you_mean(word, names)
    return f"; {hint}" if hint else ""


def one_of(names: Sequence[object]) -> str:
    """Write alternatives as ``a, b or c``."""
    words = [str(name) for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def all_of(names: Sequence[object]) -> str:
    """Write names as ``a, b and c``."""
    return " and ".join(one_of(names).rsplit(" or ", 1))


def show(value: object) -> str:
    """A value as its YAML author would recognise it, shortened."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    try:
        return _short.repr(value)
    except Exception:  # a user's object whose repr fails must not hide the message
        return f"an object of type {type(value).__name__}"
