"""``--fix``: write into the files what the findings say can safely be mended.

Only the places that the edits name are touched, so comments, order, quotes, line breaks and a
byte order mark stay as they are.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cachedit_yaml.yaml.diagnostics import Diagnostic, Edit
from cachedit_yaml.yaml.reader import leads_out

_BREAK: Final = re.compile("\r\n|\r|\n")
_BOM: Final = b"\xef\xbb\xbf"


def edits_for(name: str, diagnostics: Iterable[Diagnostic]) -> tuple[list[Edit], int]:
    """The edits of one file that do not overlap, and the number of findings that they mend.

    All edits of one finding are taken, or none.
    """
    taken: list[Edit] = []
    mended = 0
    for item in diagnostics:
        new = [edit for edit in item.fix if edit not in taken]
        if not item.fix or any(edit.span.path != name for edit in new):
            continue
        if not any(_overlap(edit, other) for edit in new for other in taken):
            taken += new
            mended += 1
    return taken, mended


def apply_edits(text: str, edits: Iterable[Edit]) -> str:
    """The text with the edits made.

    Args:
        text: the text of a file with its own line breaks.
        edits: edits that do not overlap.
    """
    starts = [0, *(match.end() for match in _BREAK.finditer(text))]
    first = _BREAK.search(text)
    newline = first[0] if first else "\n"

    def offset(line: int, column: int) -> int:
        if line > len(starts):
            return len(text)
        return min(starts[line - 1] + column - 1, len(text))

    for edit in sorted(edits, key=lambda item: item.span, reverse=True):
        start = offset(edit.span.line, edit.span.column)
        end = offset(edit.span.end_line, edit.span.end_column)
        text = text[:start] + edit.text.replace("\n", newline) + text[end:]
    return text


def fix_file(path: Path, name: str, diagnostics: Iterable[Diagnostic]) -> int:
    """Mend one file in place, whole or not at all.

    Args:
        path: the file.
        name: the file as the findings call it.
        diagnostics: what was found in it.

    Returns:
        The number of findings that were mended.

    Raises:
        OSError: the file cannot be written, or is a link to one that lies elsewhere.
    """
    edits, mended = edits_for(name, diagnostics)
    if not edits:
        return 0
    content = path.read_bytes()
    mark = _BOM if content.startswith(_BOM) else b""
    text = apply_edits(content.removeprefix(_BOM).decode("utf-8"), edits)
    write_whole(path, mark + text.encode("utf-8"))
    return mended


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in place, whole or not at all; a new one too.

    Raises:
        OSError: the file cannot be written, or is a link to one that lies elsewhere.
    """
    # The file behind a link is mended, and the link stays one.
    target = Path(os.path.realpath(path))
    # A path from here on may lead through the link of a folder, too.
    below = not path.is_absolute() and ".." not in path.parts
    if leads_out(path) or (below and leads_out(path, os.curdir)):
        raise PermissionError(errno.EPERM, "it is a link out of its folder")
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:32]}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        mode = target.stat().st_mode & 0o7777 if os.path.exists(target) else 0o644
        os.chmod(temporary, mode)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _overlap(one: Edit, other: Edit) -> bool:
    a, b = one.span, other.span
    if (a.line, a.column) == (b.line, b.column):
        return True
    first, second = sorted((a, b))
    return (first.end_line, first.end_column) > (second.line, second.column)
