"""A YAML file as plain data plus the place of every key and value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from cachedit_yaml.yaml.diagnostics import Edit, KeyPath, Span, split_lines
from cachedit_yaml.yaml.scalars import resolve_scalar

#: Where a key stands (None for items of a list) and where its value stands.
Position: TypeAlias = tuple[Span | None, Span]


@dataclass
class Document:
    """Plain data with positions.

    Attributes:
        name: the file as messages call it.
        data: the root mapping; None when the file cannot be used at all.
        positions: places by path of keys. After `extends` some lie in other files.
        path: the file, where there is one.
        sources: texts by the names that spans carry; holds the bases' files after `extends`.
    """

    name: str
    data: dict[str, Any] | None = None
    positions: dict[KeyPath, Position] = field(default_factory=dict)
    path: Path | None = None
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The text of the file itself."""
        return self.sources.get(self.name, "")

    @property
    def lines(self) -> list[str]:
        """The lines of the file itself, without line breaks."""
        return split_lines(self.text)

    def key_span(self, path: KeyPath) -> Span | None:
        """Where a key stands; for an item of a list, where the item stands."""
        found = self.positions.get(path)
        if found is None:
            return self._ancestor(path)
        return found[0] or found[1]

    def value_span(self, path: KeyPath) -> Span | None:
        """Where a value stands.

        A value of several lines is shown by its key, and so is one that is left out after `? key`
        (the parser places it where the next thing begins, which may be behind the last line); an
        absent one by the nearest key above it.
        """
        found = self.positions.get(path)
        if found is None:
            return self._ancestor(path)
        key, value = found
        left_out = value[1:3] == value[3:5]
        if key is not None and value.line > key.line and left_out:
            return key
        if key is not None and value.end_line > value.line:
            return key
        return value

    def replacement(self, path: KeyPath, text: str, *, key: bool) -> tuple[Edit, ...]:
        """The edit that writes a text in place of a key or a value; none where neither stands."""
        found = self.positions.get(path)
        span = (found[0] if key else found[1]) if found is not None else None
        lines = split_lines(self.sources.get(span.path, "")) if span is not None else []
        if span is None or not span.line == span.end_line <= len(lines):
            return ()
        quote = lines[span.line - 1][span.column - 1 : span.column]
        # JSON needs the quotes; a number in quotes is what is being mended.
        if quote in ("'", '"') and isinstance(resolve_scalar(text), str):
            text = f"{quote}{text}{quote}"
        return (Edit(span, text),)

    def _ancestor(self, path: KeyPath) -> Span | None:
        while path:
            path = path[:-1]
            if path and path in self.positions:
                key, value = self.positions[path]
                return key or value
        return Span(self.name, 1, 1, 1, 2) if self.name in self.sources else None

    def places(self) -> Mapping[KeyPath, str]:
        """``file:line`` of every key and item; after `extends`, of the file that says it."""
        names = {name: Path(name).name for name in self.sources}
        result: dict[KeyPath, str] = {}
        for path, (key, value) in self.positions.items():
            span = key or value
            result[path] = f"{names[span.path]}:{span.line}"
        return result
