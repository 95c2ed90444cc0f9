"""Which of several adapters has the best right to a class."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from cachedit_yaml.errors import AdapterConflictError
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.registry.entry import Entry
from cachedit_yaml.yaml.diagnostics import Span

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
        engine: the engine as which it serves: the one that asked, unless it is for others only.
        alike: adapters that serve a transformer's class in the same way.
        overridden: adapters of weaker sources that say the same name.
    """

    spec: AdapterSpec
    how: How
    matched_name: str
    entry: Entry
    engine: str = "diffusers"
    alike: list[Entry] = field(default_factory=list)
    overridden: list[Entry] = field(default_factory=list)

    @property
    def note(self) -> str | None:
        """What somebody should know who did not expect this adapter."""
        notes = []
        if self.how != "exact":
            by = "its base class" if self.how == "base" else "the pattern"
            notes.append(f"matched by {by} {self.matched_name!r}")
        if self.alike:
            names = ", ".join(other.name for other in self.alike)
            notes.append(f"{names} would cache {self.matched_name} in the same way")
        if self.overridden:
            notes.append(overriding(self.entry, *self.overridden))
        return "; ".join(notes) or None


def overriding(entry: Entry, *others: Entry) -> str:
    """Say which files a file wins over; empty where it wins over none."""
    return "; ".join(
        f"{entry.shown} ({entry.kind}) overrides {other.shown} ({other.kind})" for other in others
    )


def strongest(entries: Sequence[Entry], engine: str) -> tuple[list[Entry], list[Entry]]:
    """The entries of the best right to serve an engine, and those that they override.

    A stronger source comes first; of one source, a file with a section for the engine, then one
    that serves diffusers' pipelines, then one that is for other engines only.
    """

    def right(entry: Entry) -> tuple[int, int]:
        return entry.source.rank, entry.right(engine)

    ordered = sorted(entries, key=right, reverse=True)
    best = right(ordered[0])
    return (
        [entry for entry in ordered if right(entry) == best],
        [entry for entry in ordered if entry.source.rank < best[0]],
    )


def conflict(places: Iterable[Span | str], what: str) -> AdapterConflictError:
    """Several adapters claim the same with the same right."""
    shown = sorted(map(str, places))
    return AdapterConflictError(
        f"{len(shown)} adapters {what} with the same right:\n  "
        + "\n  ".join(shown)
        + "\n  remove it from all but one of them, or ask for an adapter by its path"
    )


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
