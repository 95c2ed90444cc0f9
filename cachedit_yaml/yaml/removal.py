"""The edits that take keys out of a YAML text, and leave the rest of it as it stands."""

from __future__ import annotations

from collections.abc import Collection

from cachedit_yaml.yaml.diagnostics import Edit, KeyPath, Span
from cachedit_yaml.yaml.document import Document


def removal(document: Document, parent: KeyPath, names: Collection[str]) -> tuple[Edit, ...]:
    """Take keys out of a mapping; a mapping that would be left empty goes as a whole.

    Args:
        document: the document; what is removed must stand in its own text.
        parent: the keys that lead to the mapping.
        names: the keys to take out.

    Returns:
        Edits that do not overlap; none where a key does not stand in the text, or where nothing
        of the text would be left.
    """
    entries = sorted(
        (key.line, key.column, path[-1], key)
        for path, (key, _) in document.positions.items()
        if len(path) == len(parent) + 1 and path[: len(parent)] == parent and key is not None
    )
    keys = [(name, key) for _, _, name, key in entries if key.path == document.name]
    if not set(names) <= {name for name, _ in keys}:
        return ()
    if len(names) == len(keys):
        above = parent[-1] if parent else None
        return removal(document, parent[:-1], {above}) if isinstance(above, str) else ()
    whole = document.positions[parent][1] if parent else None
    flow = whole is not None and _character(document, whole) == "{"
    edits: list[Edit] = []
    for index, (name, key) in enumerate(keys):
        if name not in names:
            continue
        end = end_of(document, (*parent, name))
        if not flow:
            edits.append(Edit(Span(key.path, key.line, 1, end[0] + 1, 1), ""))
        elif any(other not in names for other, _ in keys[index + 1 :]):
            after = keys[index + 1][1]
            edits.append(_cut(key.path, (key.line, key.column), (after.line, after.column)))
        else:
            # Nothing stays behind it, so what goes is the comma in front of it.
            before = end_of(document, (*parent, keys[index - 1][0]))
            edits.append(_cut(key.path, before, end))
    return tuple(edits)


def _cut(path: str, start: tuple[int, int], end: tuple[int, int]) -> Edit:
    return Edit(Span(path, *start, *end), "")


def _character(document: Document, span: Span) -> str:
    return document.lines[span.line - 1][span.column - 1 : span.column]


def end_of(document: Document, path: KeyPath) -> tuple[int, int]:
    """Line and column behind a value: a block ends where the last thing in it does.

    Args:
        document: the document.
        path: the keys that lead to the value.
    """
    value = document.positions[path][1]
    if _character(document, value) in ("{", "[", "*"):  # what an alias repeats stands elsewhere
        return value.end_line, value.end_column
    inner = [
        end_of(document, other)
        for other in document.positions
        if len(other) == len(path) + 1 and other[: len(path)] == path
    ]
    if inner:
        return max(inner)
    if value.end_column == 1 and value.end_line > value.line:
        return value.end_line - 1, len(document.lines[value.end_line - 2]) + 1
    return value.end_line, value.end_column
