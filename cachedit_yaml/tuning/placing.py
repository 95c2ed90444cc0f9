"""The edits that put profiles into the text of an adapter, in whatever style it is written.

What else stands in it stays, comments too: those within a profile that is replaced move below the
name of the new one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import yaml

from cachedit_yaml.errors import ConfigError
from cachedit_yaml.rules.fix import apply_edits
from cachedit_yaml.yaml.diagnostics import Edit, KeyPath, Span
from cachedit_yaml.yaml.document import Document
from cachedit_yaml.yaml.reader import read_text
from cachedit_yaml.yaml.removal import end_of
from cachedit_yaml.yaml.scalars import resolve_scalar

#: A profile as plain data: settings, and what was measured.
Profile = Mapping[str, Any]

_WIDTH: Final = 100
_KEY: Final = "profiles"
_COMMENT: Final = re.compile(r"#[^\r\n]*")
#: What ends a document.
_END: Final = re.compile(r"\.\.\.(\s|$)")


def placed(document: Document, profiles: Mapping[str, Profile]) -> str:
    """The text of a document with profiles in it.

    Args:
        document: what was read of the file.
        profiles: what to put in, by name; those that it has are replaced.

    Raises:
        ConfigError: they cannot be put in without a change to something else.
    """
    data = document.data or {}
    own = data.get(_KEY)
    text = apply_edits(document.text, _edits(document, own, profiles))
    read = read_text(text, document.name, document.path)[0].data or {}
    made = read.get(_KEY)
    kept = own if isinstance(own, Mapping) else {}
    if (
        {**read, _KEY: None} != {**data, _KEY: None}
        or not isinstance(made, Mapping)
        or set(made) != {*kept, *profiles}
        or any(made[name] != kept[name] for name in kept if name not in profiles)
    ):
        raise ConfigError(
            f"{document.name}: profiles cannot be put in without a change to something else, such "
            "as an alias; write them into another file: --write FILE"
        )
    return text


def _edits(document: Document, own: Any, profiles: Mapping[str, Profile]) -> list[Edit]:
    lines = document.lines
    root, place = document.positions[()][1], document.positions.get((_KEY,))
    if _at(lines, root) == "{":
        if place is not None and _at(lines, place[1]) == "{":
            return _into_flow(document, (_KEY,), profiles)
        return _into_flow(document, (), {_KEY: profiles})
    margin = " " * (root.column - 1)
    if place is None or place[0] is None:
        end = next((at for at, line in enumerate(lines, 1) if _END.match(line)), len(lines) + 1)
        text = f"{margin}{_KEY}:\n" + _blocks(profiles, margin + "  ")
        return [_insert(document, end, text)]
    if not own:
        return _into_nothing(document, *place, profiles, margin + "  ")
    whole = place[1]
    if _at(lines, whole) == "{":
        return _into_flow(document, (_KEY,), profiles)
    first = document.positions[_KEY, next(iter(own))][0]
    margin = " " * ((first or whole).column - 1)
    edits = []
    for name in profiles:
        if name in own:
            key = document.positions[_KEY, name][0]
            assert key is not None
            end_line, _ = end_of(document, (_KEY, name))
            span = Span(document.name, key.line, 1, end_line + 1, 1)
            said = list(_comments(document, span))
            edits.append(Edit(span, block(name, profiles[name], margin, said)))
    new = {name: item for name, item in profiles.items() if name not in own}
    if new:
        after = end_of(document, (_KEY,))[0] + 1
        edits.append(_insert(document, after, _blocks(new, margin)))
    return edits


def _into_nothing(
    document: Document, key: Span | None, value: Span, profiles: Mapping[str, Profile], margin: str
) -> list[Edit]:
    """`profiles:` holds `{}` or nothing: the block stands below its line."""
    assert key is not None
    begin = _at(document.lines, value)
    if value.line > key.line or begin not in ("{", "n", "N", "~"):
        begin = begin if begin == "{" else ""
    if begin == "{" and value.end_line > key.line:
        return _into_flow(document, (_KEY,), profiles)
    below = _insert(document, key.line + 1, _blocks(profiles, margin))
    return [Edit(value, ""), below] if begin else [below]


def _into_flow(document: Document, path: KeyPath, items: Mapping[str, Any]) -> list[Edit]:
    """Put items into a mapping in flow style."""
    lines = document.lines
    held = [item[-1] for item in document.positions if item[:-1] == path and item != path]
    is_json = _is_json(document)
    margin = " " * (len(path) * 2 + 2)
    edits = []
    new = []
    for name, item in items.items():
        if name not in held:
            new.append(_entry(name, item, margin, is_json))
            continue
        place = (*path, name)
        value = document.positions[place][1]
        comments = "".join(f"{said}\n{margin}  " for said in _comments(document, value))
        text = flow(item, margin + "  ", is_json, begin=value.column - 1)
        edits.append(Edit(value, "{" + f"  {comments}" + text[1:] if comments else text))
    if new:
        whole = document.positions[path][1]
        brace = whole.end_line, whole.end_column - 1
        # On a line of its own: a comment must not swallow it.
        before = lines[brace[0] - 1][: brace[1] - 1]
        begin = f"\n{margin}" if before.strip() else margin[len(before) :]
        text = begin + f",\n{margin}".join(new)
        edits.append(Edit(Span(document.name, *brace, *brace), text))
        last = max((end_of(document, (*path, name)) for name in held), default=None)
        if last is not None:
            gap = Span(document.name, *last, *brace)
            plain = _COMMENT.sub("", "\n".join(_stretch(lines, gap)))
            if "," not in plain:
                edits.append(Edit(Span(document.name, *last, *last), ","))
    return edits


def _entry(name: str, item: Any, margin: str, is_json: bool) -> str:
    key = json.dumps(name) if is_json else name
    if name != _KEY:
        return f"{key}: " + flow(item, margin + "  ", is_json, begin=len(margin + key) + 2)
    inner = margin + "  "
    entries = [_entry(own, value, inner, is_json) for own, value in item.items()]
    return f"{key}: {{\n{inner}" + f",\n{inner}".join(entries) + "}"


def _is_json(document: Document) -> bool:
    key = next((key for path, (key, _) in document.positions.items() if len(path) == 1), None)
    return key is not None and _at(document.lines, key) == '"'


def _at(lines: list[str], span: Span) -> str:
    """The character that a stretch begins with; nothing where it is behind the last line."""
    return lines[span.line - 1][span.column - 1 : span.column] if span.line <= len(lines) else ""


def _stretch(lines: list[str], span: Span) -> list[str]:
    rows = lines[span.line - 1 : span.end_line]
    if span.end_line <= len(lines):
        rows[-1] = rows[-1][: span.end_column - 1]
    rows[0] = rows[0][span.column - 1 :]
    return rows


def _comments(document: Document, span: Span) -> Iterator[str]:
    """The comments within a stretch: they lie between the tokens."""
    here = (span.line, span.column)
    for token in yaml.scan(document.text, Loader=yaml.SafeLoader):
        begin = (token.start_mark.line + 1, token.start_mark.column + 1)
        if begin > here:
            until = min(begin, (span.end_line, span.end_column))
            for row in _stretch(document.lines, Span(document.name, *here, *until)):
                found = _COMMENT.search(row)
                if found:
                    yield found[0].rstrip()
        here = max(here, (token.end_mark.line + 1, token.end_mark.column + 1))
        if here >= (span.end_line, span.end_column):
            return


def _insert(document: Document, line: int, text: str) -> Edit:
    """Put lines before a line, or at the end of a file, whose last line may not be ended."""
    if line > len(document.lines) and document.text and not document.text.endswith(("\n", "\r")):
        text = "\n" + text
    return Edit(Span(document.name, line, 1, line, 1), text)


def _blocks(profiles: Mapping[str, Profile], margin: str) -> str:
    return "".join(block(name, item, margin) for name, item in profiles.items())


def block(name: str, data: Mapping[str, Any], margin: str = "  ", said: Sequence[str] = ()) -> str:
    """A mapping in block style below its name, with comments first."""
    inner = margin + "  "
    lines = [f"{margin}{name}:", *(inner + text for text in said)]
    for key, value in data.items():
        if isinstance(value, Mapping) and "compute_bins" in value:
            lines.append(block(key, value, inner).rstrip("\n"))
        else:
            lines.append(_wrapped(f"{inner}{key}: ", _parts(value), inner + "  "))
    return "\n".join(lines) + "\n"


def flow(value: Any, margin: str = "", is_json: bool = False, begin: int = 0) -> str:
    """A value in flow style, over as many lines as it needs, which begins in some column."""
    if is_json:
        return json.dumps(value, default=str)
    return _wrapped(" " * begin, _parts(value), margin)[begin:]


def _wrapped(line: str, parts: Sequence[str], margin: str) -> str:
    """Parts behind what a line begins with, and on further lines."""
    lines = []
    for index, part in enumerate(parts):
        if index and len(line) + len(part) + 2 > _WIDTH:
            lines.append(line)
            line = margin + part
        else:
            line += f" {part}" if index else part
    return "\n".join([*lines, line])


def _parts(value: Any) -> list[str]:
    """A value in flow style, cut where a line may end."""
    if isinstance(value, Mapping):
        found = [_parts(item) for item in value.values()]
        for name, parts in zip(value, found, strict=True):
            parts[0] = f"{name}: {parts[0]}"
    elif isinstance(value, (list, tuple)):
        found = [_parts(item) for item in value]
    else:
        return [_scalar(value)]
    begin, end = "{}" if isinstance(value, Mapping) else "[]"
    for parts in found[:-1]:
        parts[-1] += ","
    parts = [part for item in found for part in item] or [""]
    parts[0] = begin + parts[0]
    parts[-1] += end
    return parts


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return f"{value:g}" if isinstance(value, float) else str(value)
    plain = value.replace(" ", "").replace("-", "").replace(".", "").replace("'", "")
    safe = plain.isalnum() and value[0].isalpha() and value.strip() == value
    if safe and isinstance(resolve_scalar(value), str):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
