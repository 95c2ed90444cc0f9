"""Read one YAML file into plain data with positions, without ever raising for its content."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path
from typing import Any, Final

import yaml

from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath, Span, show
from cachedit_yaml.yaml.document import Document
from cachedit_yaml.yaml.encoding import decode, hidden_characters, too_nested
from cachedit_yaml.yaml.nodes import Node, compose
from cachedit_yaml.yaml.reading import MAX_BYTES, MAX_DEPTH, Reading, StopReading
from cachedit_yaml.yaml.scalars import resolve_scalar

#: What a key looks like. Python and other texts may happen to parse, with keys that none has.
_WORD: Final = re.compile(r"[\w.-]+")


def read_file(
    path: str | os.PathLike[str], name: str | None = None
) -> tuple[Document, list[Diagnostic]]:
    """Read a YAML file.

    Args:
        path: the file.
        name: how messages call it; default: the path.

    Returns:
        The document, whose data is None when nothing could be made of the file, and everything
        that is wrong with it. Never raises for what the file holds or that it cannot be opened.
    """
    path = Path(path)
    shown = name or str(path)
    try:
        with open(path, "rb", opener=_open_without_waiting) as handle:
            mode = os.fstat(handle.fileno()).st_mode
            if not stat.S_ISREG(mode):
                kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
                return _unreadable(path, shown, f"{kind}, and an adapter is one file")
            content = handle.read(MAX_BYTES + 1)
    except IsADirectoryError:
        return _unreadable(path, shown, "a folder, and an adapter is one file")
    except (OSError, ValueError) as error:
        return _unreadable(path, shown, getattr(error, "strerror", None) or str(error))
    return read_text(content, shown, path)


def leads_out(path: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> bool:
    """Whether a file lies, behind all links, outside of its folder.

    Whoever sends files may send links too: to files that are nobody else's business.

    Args:
        path: the file.
        folder: default: the one that the path names.
    """
    try:
        folder = os.path.realpath(os.path.dirname(path) if folder is None else folder)
        return os.path.commonpath([folder, os.path.realpath(path)]) != folder
    except ValueError:  # a character that no name has: nothing is there
        return False


def read_text(
    source: str | bytes, name: str = "<text>", path: Path | None = None
) -> tuple[Document, list[Diagnostic]]:
    """Read YAML from memory.

    Args:
        source: the text, or the bytes of a file.
        name: how messages call it.
        path: the file that it came from, if any.

    Returns:
        As :func:`read_file`.
    """
    document = Document(name, path=path)
    reading = Reading(document)
    with contextlib.suppress(StopReading):
        root = _parse(_check_text(source, reading), reading)
        if root is not None:
            reading.nodes = 0
            document.data = _Builder(reading).build(root, (), None, [])
    if not any(map(_WORD.fullmatch, document.data or ())):
        _call_foreign(source, reading)
    return document, reading.diagnostics


def _call_foreign(source: str | bytes, reading: Reading) -> None:
    """Say that a file is no YAML at all rather than what would be wrong with it if it were."""
    from cachedit_yaml.yaml.foreign import name_foreign  # its patterns take time to compile

    document = reading.document
    found = name_foreign(source, document.name)
    if found is not None and (found[0] != "text" or document.data is None):
        document.data = None
        if not document.text or "\ufffd" in document.text or "\0" in document.text:
            document.sources[document.name] = ""  # nothing that can be shown
        reading.diagnostics.clear()
        reading.report("not-yaml", f"the file holds {found[0]}, not YAML", hint=found[1])


def _open_without_waiting(path: str, flags: int) -> int:
    # A named pipe among the adapters must not hang the search.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _unreadable(path: Path, name: str, why: str) -> tuple[Document, list[Diagnostic]]:
    problem = Diagnostic("unreadable", f"cannot read the file: {why}", span=Span(name, 1, 1, 1, 2))
    return Document(name, path=path), [problem]


def _check_text(source: str | bytes, reading: Reading) -> str:
    if len(source) > MAX_BYTES:
        raise reading.stop(
            "too-large",
            f"the file is larger than {MAX_BYTES // 1024} KiB",
            hint="an adapter holds a few lines for each transformer",
        )
    name = reading.document.name
    text, problem = (source, None) if isinstance(source, str) else decode(source, name)
    reading.document.sources[name] = text
    found = [problem] if problem is not None else hidden_characters(text, name)
    reading.diagnostics += found
    if found:
        raise StopReading
    where = too_nested(text, name)
    if where is not None:
        raise reading.stop("too-large", f"nested deeper than {MAX_DEPTH} levels", where)
    return text


def _parse(text: str, reading: Reading) -> Node | None:
    """The root mapping, or None where the text holds none."""
    try:
        root = compose(text, reading)
    except yaml.MarkedYAMLError as error:
        from cachedit_yaml.yaml.syntax import explain  # its patterns take time to compile

        reading.diagnostics.append(explain(error, reading.document.name, text))
        return None
    except yaml.YAMLError as error:
        reading.report("syntax", f"not YAML: {error}")
        return None
    if root is None or (root.plain and resolve_scalar(root.text) is None):
        reading.report(
            "empty",
            "the file is empty",
            expected="an adapter",
            hint="begin with 'schema: 1'",
        )
        return None
    if not root.is_mapping:
        kind = "a list" if root.items is not None else show(_scalar(root))
        reading.report(
            "not-a-mapping",
            f"the file holds {kind}",
            reading.span(root.start, root.end),
            expected="a mapping of keys to values",
            hint="begin with 'schema: 1'",
        )
        return None
    return root


class _Builder:
    """Nodes to plain data."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.positions = reading.document.positions

    def build(self, node: Node, path: KeyPath, key: Span | None, active: list[Node]) -> Any:
        where = self.reading.span(node.start, node.end)
        self.positions[path] = (key, where)
        self.reading.count(node.start, node.end)
        if len(path) > MAX_DEPTH or len(active) > 2 * MAX_DEPTH:
            raise self.reading.stop("too-large", f"nested deeper than {MAX_DEPTH} levels", where)
        if node.alias_of is not None:
            if any(item is node.alias_of for item in active):
                raise self.reading.stop(
                    "anchor", "the alias stands inside of what it repeats", where
                )
            value = self.build(node.alias_of, path, key, active)
            self.positions[path] = (key, where)
            return value
        if node.items is None:
            return _scalar(node)
        active = [*active, node]
        if node.is_mapping:
            return self.mapping(node, path, active)
        return [
            self.build(child, (*path, index), None, active)
            for index, child in enumerate(node.items)
        ]

    def mapping(self, node: Node, path: KeyPath, active: list[Node]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.pairs():
            where = self.reading.span(key_node.start, key_node.end)
            key = self.key(key_node, where)
            if key is None:
                continue
            child = (*path, key)
            if key in result:
                first = self.positions[child][0]
                self.reading.report(
                    "duplicate-key",
                    f"the key {key!r} stands here for the second time",
                    where,
                    key_path=child,
                    hint="keep one of them",
                    related=(("first here", first),) if first else (),
                )
                continue
            result[key] = None
            result[key] = self.build(value_node, child, where, active)
        return result

    def key(self, node: Node, where: Span) -> str | None:
        if node.alias_of is not None:
            node = node.alias_of
        if node.items is not None:
            self.reading.report(
                "non-string-key", "a list or mapping cannot be a key", where, expected="text"
            )
            return None
        if node.plain and node.text == "<<":
            self.reading.report(
                "merge-key",
                "merge keys are not part of the language",
                where,
                hint="write the keys out, or start from another file with 'extends'",
            )
            return None
        value = _scalar(node)
        if not isinstance(value, str):
            self.reading.report(
                "non-string-key",
                f"the key {node.text or 'null'!s} is not text",
                where,
                hint=f'write "{node.text}" in quotes if it is a name',
            )
            return None
        return value


def _scalar(node: Node) -> Any:
    return resolve_scalar(node.text) if node.plain else node.text
