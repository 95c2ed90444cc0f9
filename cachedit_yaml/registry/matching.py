"""Which of several adapters has the best right to a class."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from cachedit_yaml.errors import AdapterConflictError
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.registry.entry import Entry
from cachedit_yaml.yaml.diagnostics import KeyPath

How: TypeAlias = Literal["exact", "base", "pattern"]
#: A class or names of classes, the most derived one first.
ClassLike: TypeAlias = type | str | Sequence[str]


@dataclass(frozen=True)
class Match:
    """The adapter that serves a class.

    Attributes:
        spec: the adapter.
        how: by the class's own name, by a base class or by a pattern.
        matched_name: the name or pattern in the adapter.
        entry: the file.
        overridden: adapters of weaker sources that say the same name.
    """

    spec: AdapterSpec
    how: How
    matched_name: str
    entry: Entry
    overridden: list[Entry] = field(default_factory=list)

    @property
    def note(self) -> str | None:
        """What somebody should know who did not expect this adapter."""
        notes = []
        if self.how != "exact":
            by = "its base class" if self.how == "base" else "the pattern"
            notes.append(f"matched by {by} {self.matched_name!r}")
        if self.overridden:
            notes.append(overriding(self.entry, *self.overridden))
        return "; ".join(notes) or None


def overriding(entry: Entry, *others: Entry) -> str:
    """Say which files a file wins over; empty where it wins over none."""
    return "; ".join(
        f"{entry.shown} ({entry.kind}) overrides {other.shown} ({other.kind})" for other in others
    )


def strongest(
    entries: Sequence[Entry],
    what: str,
    claims: Mapping[Entry, KeyPath] | KeyPath,
    engine: str | None = None,
) -> list[Entry]:
    """Order by right, the strongest first.

    Of two files of one source, that of the engine that asks is stronger; for a caller who names
    no engine, the one that lies in no engine's folder.

    Raises:
        AdapterConflictError: two are equally strong.
    """

    def right(entry: Entry) -> tuple[int, int]:
        fits = (entry.engine == engine) - (entry.engine not in (None, engine))
        return entry.source.rank, fits

    ordered = sorted(entries, key=right, reverse=True)
    equal = [entry for entry in ordered if right(entry) == right(ordered[0])]
    if len(equal) > 1:
        places = []
        for entry in sorted(equal, key=lambda e: e.shown):
            path = claims[entry] if isinstance(claims, Mapping) else claims
            places.append(str(entry.span(path) or entry.shown))
        raise AdapterConflictError(
            f"{len(equal)} adapters {what} with the same right:\n  "
            + "\n  ".join(places)
            + "\n  remove it from all but one of them, or ask for an adapter by its path"
        )
    return [
        entry
        for entry in ordered
        if entry.source.rank < ordered[0].source.rank or entry is ordered[0]
    ]


def class_names(target: ClassLike) -> list[str]:
    """The names of a class and its bases, in the order of the MRO."""
    if isinstance(target, type):
        return [cls.__name__ for cls in target.__mro__ if cls is not object]
    return [target] if isinstance(target, str) else list(target)


def fits(pattern: str, name: str) -> bool:
    """Whether a pattern with ``*`` matches a whole name."""
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), name) is not None


def literal_length(pattern: str) -> int:
    """How much of a name a pattern fixes."""
    return len(pattern.replace("*", ""))
