"""Lay one mapping of the language over another, each value with the place that it came from.

- Mappings merge key by key. A list, a text, a number replaces what lies below. So do the mappings
  that are one choice (`scm`, `calibrator`, `guidance`, `step_split`): half of one mask and half of
  another make none.
- A list's shorthand counts as its mapping: on top of ``blocks: Pattern_2``, writing
  ``blocks: {params: {...}}`` keeps the pattern.
- `null` takes away what lies below, where it is not a value itself, as it is of some settings.
- `measured` holds for the settings beside it: it goes when one of them changes.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from cachedit_yaml.language.cache_spec import CacheSettings
from cachedit_yaml.language.shapes import Key, keys_of, members_of, nested
from cachedit_yaml.yaml.diagnostics import KeyPath
from cachedit_yaml.yaml.document import Document, Position

_NOTHING: Final = object()
_NONE: Final = type(None)
#: Keys beside settings that change nothing.
_REMARKS: Final = frozenset({"description", "measured"})


class _Shape(NamedTuple):
    """What the language has in one place.

    Attributes:
        keys: its keys; none below free names.
        entry: what stands below free names.
        shorthand: the key that a bare text stands for there.
        null: the keys for which `null` is a value; None for all of them.
        atomic: whether it is replaced as a whole.
    """

    keys: Mapping[str, Key]
    entry: type | None = None
    shorthand: str | None = None
    null: frozenset[str] | None = frozenset()
    atomic: bool = False


@functools.cache
def _shape_of(cls: type) -> _Shape:
    # Of a setting, null is a value, or a slip.
    null = keys_of(CacheSettings) if issubclass(cls, CacheSettings) else ()
    return _Shape(keys_of(cls), null=frozenset(null), atomic=getattr(cls, "ATOMIC", False))


def _below(shape: _Shape, name: str) -> _Shape:
    """What stands under a key."""
    if shape.entry is not None:
        return _shape_of(shape.entry)
    key = shape.keys.get(name)
    if key is None:
        return _Shape({})
    inner = nested(key)
    if inner is not None and inner[1] == "":
        return _shape_of(inner[0])
    values = {item for hint in key.members for item in _values(hint)}
    null = None if _NONE in values else frozenset[str]()
    entry = inner[0] if inner is not None and inner[1] == "NAME" else None
    return _Shape({}, entry, getattr(entry, "SHORTHAND", None), null)


def _values(hint: Any) -> tuple[Any, ...]:
    arguments = typing.get_args(hint)
    return members_of(arguments[-1]) if arguments else ()


def lay_over(
    base: Document,
    child: Document,
    cls: type,
    *,
    below: KeyPath = (),
    without: Iterable[str] = (),
    keep: Iterable[str] = (),
) -> Document:
    """Lay a part of a document over another document.

    Args:
        base: what lies below; it is not changed.
        child: what is laid over it; it is not changed.
        cls: what the language has here.
        below: the keys that lead to the part.
        without: keys of the part that are left out.
        keep: keys of the base that `null` does not take away.

    Returns:
        A document of the child's name with the merged data and the place of each value.
    """
    part: Any = child.data
    for step in below:
        part = part[step]
    skipped = frozenset(without)
    own = {name: value for name, value in part.items() if name not in skipped}
    merging = _Merging()
    shape = _shape_of(cls)
    shape = shape._replace(null=(shape.null or frozenset()) | frozenset(keep))
    merged = Document(child.name, path=child.path, sources={**base.sources, **child.sources})
    merged.data = merging.mapping(own, base.data or {}, shape, ())
    merged.positions = merging.positions(base)
    size = len(below)
    for path, place in child.positions.items():
        here = path[size:]
        # The place of a part is not that of the whole.
        if path[:size] != below or (below and not here) or (here and here[0] in skipped):
            continue
        if here not in merging.removed:
            merged.positions[here] = place
    return merged


class _Merging:
    def __init__(self) -> None:
        #: Values that took the place of others: what the base knows of them and below is void.
        self.replaced: set[KeyPath] = set()
        #: Mappings that were merged: both have a place for them.
        self.merged: set[KeyPath] = set()
        self.removed: set[KeyPath] = set()
        #: Where a base's shorthand was spelled out.
        self.spelled: dict[KeyPath, KeyPath] = {}

    def mapping(
        self, own: Mapping[str, Any], base: Mapping[str, Any], shape: _Shape, path: KeyPath
    ) -> dict[str, Any]:
        result = dict(base)
        if "measured" in base and "measured" in shape.keys:
            changed = (v != base.get(k, _NOTHING) for k, v in own.items() if k not in _REMARKS)
            if any(changed):
                del result["measured"]
                self.replaced.add((*path, "measured"))
        for name, value in own.items():
            here = (*path, name)
            old = base.get(name, _NOTHING)
            if value is None and old is not _NOTHING and self._takes_away(shape, name):
                result.pop(name, None)
                self.replaced.add(here)
                self.removed.add(here)
                continue
            below = _below(shape, name)
            if isinstance(value, Mapping):
                shorthand = shape.shorthand
                if shorthand and isinstance(old, str):
                    self.spelled[here] = (*here, shorthand)
                    old = {shorthand: old}
                if isinstance(old, Mapping) and not below.atomic:
                    result[name] = self.mapping(value, old, below, here)
                    self.merged.add(here)
                    continue
            result[name] = value
            if old is not _NOTHING:
                self.replaced.add(here)
        return result

    @staticmethod
    def _takes_away(shape: _Shape, name: str) -> bool:
        return shape.null is not None and name not in shape.null

    def positions(self, base: Document) -> dict[KeyPath, Position]:
        """The places of the base that still hold."""
        if not self.replaced and not self.merged:
            return dict(base.positions)
        result: dict[KeyPath, Position] = {}
        for path, place in base.positions.items():
            if any(path[:size] in self.replaced for size in range(1, len(path) + 1)):
                continue
            if path in self.spelled:
                result[self.spelled[path]] = place
            if path not in self.merged:
                result[path] = place
        return result
