"""Read one YAML file into plain data with positions, without ever raising for its content.

The parser's events are used rather than its nodes: they show explicit tags, anchors and quotes,
and they allow to stop at a limit before anything was built, which a hostile file needs.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from yaml import events as ev

from cachedit_yaml.language.diagnostics import Diagnostic, KeyPath, Span, show
from cachedit_yaml.language.document import Document
from cachedit_yaml.language.encoding import decode, hidden_characters, too_nested
from cachedit_yaml.language.scalars import resolve_scalar
from cachedit_yaml.language.syntax import explain

#: Limits far beyond any adapter.
MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 32
MAX_NODES: Final = 20_000
MAX_ALIASES: Final = 64

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class _Node:
    """A scalar (text), a sequence (children), a mapping (pairs) or an alias of another node."""

    start: Any
    end: Any
    text: str = ""
    plain: bool = False
    children: list[_Node] | None = None
    pairs: list[tuple[_Node, _Node]] | None = None
    alias_of: _Node | None = None
    #: The key of a mapping under construction that waits for its value.
    waiting: _Node | None = None


class _StopReading(Exception):  # noqa: N818 - no error, but the way out of a loop
    """A limit is reached: nothing more is read."""


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
    reader = _Reader(document)
    with contextlib.suppress(_StopReading):
        reader.read(reader.check_text(source))
    return document, reader.diagnostics


def _open_without_waiting(path: str, flags: int) -> int:
    # A named pipe among the adapters must not hang the search.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _unreadable(path: Path, name: str, why: str) -> tuple[Document, list[Diagnostic]]:
    problem = Diagnostic("unreadable", f"cannot read the file: {why}", span=Span(name, 1, 1, 1, 2))
    return Document(name, path=path), [problem]


class _Reader:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.diagnostics: list[Diagnostic] = []
        self.nodes = 0
        self.anchors: dict[str, _Node] = {}
        self.aliases = 0

    def report(self, code: str, message: str, span: Span | None, **more: Any) -> None:
        self.diagnostics.append(Diagnostic(code, message, span=span, **more))

    def stop(self, code: str, message: str, span: Span | None = None, **more: Any) -> _StopReading:
        span = span or Span(self.document.name, 1, 1, 1, 2)
        self.report(code, message, span, **more)
        return _StopReading()

    def span(self, start: Any, end: Any) -> Span:
        return Span(
            self.document.name, start.line + 1, start.column + 1, end.line + 1, end.column + 1
        )

    def check_text(self, source: str | bytes) -> str:
        if len(source) > MAX_BYTES:
            raise self.stop(
                "too-large",
                f"the file is larger than {MAX_BYTES // 1024} KiB",
                hint="an adapter holds a few lines for each transformer",
            )
        name = self.document.name
        text, problem = (source, None) if isinstance(source, str) else decode(source, name)
        self.document.sources[name] = text
        found = [problem] if problem is not None else hidden_characters(text, name)
        self.diagnostics += found
        if found:
            raise _StopReading
        where = too_nested(text, name)
        if where is not None:
            raise self.stop("too-large", f"nested deeper than {MAX_DEPTH} levels", where)
        return text

    # --- events to nodes ---

    def read(self, text: str) -> None:
        try:
            root = self.compose(yaml.parse(text, Loader=_LOADER))
        except yaml.MarkedYAMLError as error:
            self.diagnostics.append(explain(error, self.document.name, text))
            return
        except yaml.YAMLError as error:
            self.report("syntax", f"not YAML: {error}", Span(self.document.name, 1, 1, 1, 2))
            return
        if root is None or (root.plain and resolve_scalar(root.text) is None):
            self.report(
                "empty",
                "the file is empty",
                Span(self.document.name, 1, 1, 1, 2),
                expected="an adapter",
                hint="begin with 'schema: 1'",
            )
            return
        if root.pairs is None:
            kind = "a list" if root.children is not None else show(self.scalar(root))
            self.report(
                "not-a-mapping",
                f"the file holds {kind}",
                self.span(root.start, root.end),
                expected="a mapping of keys to values",
                hint="begin with 'schema: 1'",
            )
            return
        self.nodes = 0
        self.document.data = self.build(root, (), None, [])

    def compose(self, stream: Iterator[Any]) -> _Node | None:
        root: _Node | None = None
        stack: list[_Node] = []
        documents = 0
        for event in stream:
            if isinstance(event, ev.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    where = self.span(event.start_mark, event.end_mark)
                    raise self.stop(
                        "multiple-documents",
                        "a second document begins here",
                        where,
                        hint="put it in a file of its own",
                    )
                if event.version or event.tags:
                    self.report(
                        "directive",
                        "a line that begins with '%' is a YAML directive",
                        Span(self.document.name, 1, 1, 1, 2),
                        hint="remove it",
                    )
            elif isinstance(event, (ev.SequenceEndEvent, ev.MappingEndEvent)):
                stack.pop().end = event.end_mark
            elif isinstance(event, ev.NodeEvent):
                node = self.node(event)
                if stack:
                    self.attach(stack[-1], node)
                else:
                    root = node
                if isinstance(event, ev.CollectionStartEvent):
                    stack.append(node)
                    if len(stack) > MAX_DEPTH:
                        raise self.stop(
                            "too-large",
                            f"nested deeper than {MAX_DEPTH} levels",
                            self.span(event.start_mark, event.end_mark),
                        )
        return root

    def node(self, event: Any) -> _Node:
        self.count(event.start_mark, event.end_mark)
        if isinstance(event, ev.AliasEvent):
            where = self.span(event.start_mark, event.end_mark)
            self.aliases += 1
            if self.aliases > MAX_ALIASES:
                raise self.stop("anchor", f"more than {MAX_ALIASES} aliases", where)
            if event.anchor not in self.anchors:
                self.report(
                    "anchor",
                    f"no anchor has the name {event.anchor!r}",
                    where,
                    hint=f"put the text in quotes: '*{event.anchor}'",
                )
                return _Node(event.start_mark, event.end_mark, f"*{event.anchor}")
            return _Node(event.start_mark, event.end_mark, alias_of=self.anchors[event.anchor])
        if event.tag is not None:
            where = self.span(event.start_mark, event.end_mark)
            self.report(
                "tag",
                f"the tag {_tag(event.tag)} is not part of the language",
                where,
                hint="remove it"
                if "python" not in event.tag
                else "remove it; an adapter is only data and never runs code",
            )
        node = _Node(event.start_mark, event.end_mark)
        if isinstance(event, ev.ScalarEvent):
            node.text = event.value
            node.plain = event.tag is None and bool(event.implicit[0])
        elif isinstance(event, ev.SequenceStartEvent):
            node.children = []
        else:
            node.pairs = []
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def attach(self, parent: _Node, node: _Node) -> None:
        if parent.children is not None:
            parent.children.append(node)
        elif parent.pairs is not None:
            if parent.waiting is None:
                parent.waiting = node
            else:
                parent.pairs.append((parent.waiting, node))
                parent.waiting = None

    def count(self, start: Any, end: Any) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self.stop(
                "too-large",
                f"more than {MAX_NODES} values",
                self.span(start, end),
                hint="aliases count with everything that they repeat",
            )

    # --- nodes to data ---

    def build(self, node: _Node, path: KeyPath, key: Span | None, active: list[_Node]) -> Any:
        where = self.span(node.start, node.end)
        self.document.positions[path] = (key, where)
        self.count(node.start, node.end)
        if len(path) > MAX_DEPTH or len(active) > 2 * MAX_DEPTH:
            raise self.stop("too-large", f"nested deeper than {MAX_DEPTH} levels", where)
        if node.alias_of is not None:
            if any(item is node.alias_of for item in active):
                raise self.stop("anchor", "the alias stands inside of what it repeats", where)
            value = self.build(node.alias_of, path, key, active)
            self.document.positions[path] = (key, where)
            return value
        if node.children is not None:
            active = [*active, node]
            return [
                self.build(child, (*path, index), None, active)
                for index, child in enumerate(node.children)
            ]
        if node.pairs is not None:
            return self.mapping(node, path, [*active, node])
        return self.scalar(node)

    def mapping(self, node: _Node, path: KeyPath, active: list[_Node]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        assert node.pairs is not None
        for key_node, value_node in node.pairs:
            where = self.span(key_node.start, key_node.end)
            key = self.key(key_node, where)
            if key is None:
                continue
            child = (*path, key)
            if key in result:
                first = self.document.positions[child][0]
                self.report(
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

    def key(self, node: _Node, where: Span) -> str | None:
        if node.alias_of is not None:
            node = node.alias_of
        if node.pairs is not None or node.children is not None:
            self.report(
                "non-string-key", "a list or mapping cannot be a key", where, expected="text"
            )
            return None
        if node.plain and node.text == "<<":
            self.report(
                "merge-key",
                "merge keys are not part of the language",
                where,
                hint="write the keys out, or start from another file with 'extends'",
            )
            return None
        value = self.scalar(node)
        if not isinstance(value, str):
            self.report(
                "non-string-key",
                f"the key {node.text or 'null'!s} is not text",
                where,
                hint=f'write "{node.text}" in quotes if it is a name',
            )
            return None
        return value

    def scalar(self, node: _Node) -> Any:
        return resolve_scalar(node.text) if node.plain else node.text


def _tag(tag: str) -> str:
    return f"!!{tag.removeprefix('tag:yaml.org,2002:')}" if tag.startswith("tag:yaml") else tag
