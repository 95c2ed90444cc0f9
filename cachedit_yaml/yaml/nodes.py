"""From the events of the parser to nodes.

The events are used rather than the parser's own nodes: they show explicit tags, anchors and
quotes, and they allow to stop at a limit before anything was built, which a hostile file needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml
from yaml import events as ev

from cachedit_yaml.yaml.reading import MAX_ALIASES, MAX_DEPTH, Reading

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class Node:
    """A scalar (text), a collection (items) or an alias of another node.

    The items of a mapping are its keys and values in turn.
    """

    start: Any
    end: Any
    text: str = ""
    plain: bool = False
    items: list[Node] | None = None
    is_mapping: bool = False
    alias_of: Node | None = None

    def pairs(self) -> Iterator[tuple[Node, Node]]:
        """The keys and values of a mapping."""
        each = iter(self.items or ())
        return zip(each, each, strict=True)


def compose(text: str, reading: Reading) -> Node | None:
    """Parse a text.

    Args:
        text: YAML.
        reading: where findings go.

    Returns:
        The root, or None where there is none.

    Raises:
        yaml.YAMLError: the text is not YAML.
        StopReading: a limit is reached.
    """
    return _Composer(reading).compose(_events(text))


def _events(text: str) -> Iterator[Any]:
    """What :func:`yaml.parse` yields, with one call an event instead of three."""
    loader = _LOADER(text)
    try:
        while (event := loader.get_event()) is not None:
            yield event
    finally:
        loader.dispose()


class _Composer:
    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.anchors: dict[str, Node] = {}
        self.aliases = 0

    def compose(self, stream: Iterator[Any]) -> Node | None:
        root: Node | None = None
        stack: list[Node] = []
        inner: list[list[Node]] = []  # the items of what is on the stack
        documents = 0
        for event in stream:
            if type(event) is ev.ScalarEvent and inner and event.tag is event.anchor is None:
                # Nearly all events are these.
                start, end = event.start_mark, event.end_mark
                self.reading.count(start, end)
                inner[-1].append(Node(start, end, event.value, event.implicit[0]))
            elif isinstance(event, ev.DocumentStartEvent):
                documents += 1
                self.begin_document(event, documents)
            elif isinstance(event, (ev.SequenceEndEvent, ev.MappingEndEvent)):
                stack.pop().end = event.end_mark
                inner.pop()
            elif isinstance(event, ev.NodeEvent):
                node = self.node(event)
                if inner:
                    inner[-1].append(node)
                else:
                    root = node
                if node.items is not None:
                    stack.append(node)
                    inner.append(node.items)
                    if len(stack) > MAX_DEPTH:
                        raise self.reading.stop(
                            "too-large",
                            f"nested deeper than {MAX_DEPTH} levels",
                            self.reading.span(event.start_mark, event.end_mark),
                        )
        return root

    def begin_document(self, event: Any, number: int) -> None:
        if number > 1:
            raise self.reading.stop(
                "multiple-documents",
                "a second document begins here",
                self.reading.span(event.start_mark, event.end_mark),
                hint="put it in a file of its own",
            )
        if event.version or event.tags:
            self.reading.report(
                "directive",
                "a line that begins with '%' is a YAML directive",
                hint="remove it",
            )

    def node(self, event: Any) -> Node:
        self.reading.count(event.start_mark, event.end_mark)
        if isinstance(event, ev.AliasEvent):
            return self.alias(event)
        if event.tag is not None:
            self.reading.report(
                "tag",
                f"the tag {_tag(event.tag)} is not part of the language",
                self.reading.span(event.start_mark, event.end_mark),
                hint="remove it"
                if "python" not in event.tag
                else "remove it; an adapter is only data and never runs code",
            )
        node = Node(event.start_mark, event.end_mark)
        if isinstance(event, ev.ScalarEvent):
            node.text = event.value
            node.plain = event.tag is None and bool(event.implicit[0])
        else:
            node.items = []
            node.is_mapping = isinstance(event, ev.MappingStartEvent)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def alias(self, event: Any) -> Node:
        where = self.reading.span(event.start_mark, event.end_mark)
        self.aliases += 1
        if self.aliases > MAX_ALIASES:
            raise self.reading.stop("anchor", f"more than {MAX_ALIASES} aliases", where)
        if event.anchor in self.anchors:
            return Node(event.start_mark, event.end_mark, alias_of=self.anchors[event.anchor])
        self.reading.report(
            "anchor",
            f"no anchor has the name {event.anchor!r}",
            where,
            hint=f"put the text in quotes: '*{event.anchor}'",
        )
        return Node(event.start_mark, event.end_mark, f"*{event.anchor}")


def _tag(tag: str) -> str:
    return f"!!{tag.removeprefix('tag:yaml.org,2002:')}" if tag.startswith("tag:yaml") else tag
