"""From the bytes of a file to text that shows all that it holds."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from cachedit_yaml.yaml.diagnostics import Diagnostic, Span

#: Also line separators of Unicode, byte order marks and marks of writing direction: what an
#: editor shows would not be what is read.
_HIDDEN: Final = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    "|[\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]"
)
_BOMS: Final = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_MOST_HIDDEN: Final = 5
_BRACKET: Final = re.compile(r"[\[\]{}]")
_MOST_BRACKETS: Final = 500


def from_json(text: str) -> Any:
    """Plain data of a JSON text.

    Raises:
        ValueError: it is none, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def decode(content: bytes, name: str) -> tuple[str, Diagnostic | None]:
    """Decode UTF-8, with or without a byte order mark.

    Args:
        content: the bytes of a file.
        name: the file as messages call it.

    Returns:
        The text, and what is wrong with the encoding; the text is then only good for showing.
    """
    content = content.removeprefix(b"\xef\xbb\xbf")
    for bom, encoding in _BOMS:
        if content.startswith(bom):
            return "", Diagnostic(
                "encoding",
                f"the file is {encoding}",
                span=Span(name, 1, 1, 1, 2),
                expected="UTF-8",
                hint="save it as UTF-8",
            )
    try:
        return content.decode("utf-8"), None
    except UnicodeDecodeError as error:
        span = _place(content[: error.start].decode("utf-8", "replace"), name)
        return content.decode("utf-8", "replace"), Diagnostic(
            "encoding",
            f"byte 0x{content[error.start]:02x} is not UTF-8",
            span=span,
            hint="save the file as UTF-8",
        )


def hidden_characters(text: str, name: str) -> list[Diagnostic]:
    """Find characters that cannot be seen; at most the first few.

    Args:
        text: the text of a file.
        name: the file as messages call it.
    """
    found: list[Diagnostic] = []
    for match in _HIDDEN.finditer(text):
        char = match[0]
        what = "a NUL character" if char == "\0" else f"the character U+{ord(char):04X}"
        utf16 = char == "\0" and text.count("\0") * 3 > len(text)
        found.append(
            Diagnostic(
                "control-character",
                f"{what} cannot be seen and does not belong here",
                span=_place(text[: match.start()], name),
                hint="the file looks like UTF-16; save it as UTF-8" if utf16 else "remove it",
            )
        )
        if len(found) >= _MOST_HIDDEN or char == "\0":
            break
    return found


def too_nested(text: str, name: str) -> Span | None:
    """Where brackets stand far deeper in each other than any parser should be asked to go.

    The time that libyaml takes grows with the square of the depth, long before it yields anything.
    Brackets in quotes count too, so the limit is far beyond that of the language.
    """
    if text.count("[") + text.count("{") <= _MOST_BRACKETS:
        return None
    depth = 0
    for match in _BRACKET.finditer(text):
        depth = depth + 1 if match[0] in "[{" else max(0, depth - 1)
        if depth > _MOST_BRACKETS:
            return _place(text[: match.start()], name)
    return None


def _place(before: str, name: str) -> Span:
    """The place behind a text."""
    before = before.replace("\r\n", "\n").replace("\r", "\n")
    line = before.count("\n") + 1
    column = len(before) - (before.rfind("\n") + 1) + 1
    return Span(name, line, column, line, column + 1)
