"""Find an adapter by the class of a pipeline or a transformer.

Of the adapters that name a class, the strongest serves it; :func:`strongest` says which that is.
Files are only parsed where they mention the class; what a file really claims is read then.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Literal, TypeAlias

from cachedit_yaml.compiler.matching import classes_of
from cachedit_yaml.errors import AdapterConflictError, AdapterError
from cachedit_yaml.language.keys import HOME
from cachedit_yaml.language.patterns import fits, names_of
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.registry.entry import Entry
from cachedit_yaml.registry.not_found import MANY, no_such_class
from cachedit_yaml.registry.search_path import Source
from cachedit_yaml.registry.words import Words
from cachedit_yaml.rules.adapter import Claim
from cachedit_yaml.yaml.diagnostics import Span

How: TypeAlias = Literal["exact", "base", "pattern", "held"]
#: A class or names of classes, the most derived one first.
ClassLike: TypeAlias = type | str | Sequence[str]


@dataclass(frozen=True)
class Match:
    """The adapter that serves a class.

    Attributes:
        spec: the adapter.
        how: by the class's own name, by a base class, by a pattern, or by what a pipeline holds.
        matched_name: the name or pattern in the adapter.
        entry: the file.
        asked: the engine that asked.
        alike: adapters that serve a transformer's class in the same way.
        overridden: adapters of weaker sources that say the same name.
        held: for a pipeline that is served by what it holds, what that is.
    """

    spec: AdapterSpec
    how: How
    matched_name: str
    entry: Entry
    asked: str = HOME[0]
    alike: list[Entry] = field(default_factory=list)
    overridden: list[Entry] = field(default_factory=list)
    held: str = ""

    @property
    def engine(self) -> str:
        """The engine as which it serves: the one that asked, unless it is for others only."""
        return self.spec.engine

    @property
    def note(self) -> str | None:
        """What somebody should know who did not expect this adapter."""
        notes = []
        if self.engine != self.asked:
            notes.append(f"{self.entry.name} is made for {self.engine}, not for {self.asked}")
        if self.held:
            notes.append(self.held)
        elif self.how != "exact":
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

    if len(entries) == 1:
        return list(entries), []  # whose right need not be read from its file
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
        return names_of(target)
    return [target] if isinstance(target, str) else list(target)


def literal_length(pattern: str) -> int:
    """How much of a name a pattern fixes."""
    return len(pattern.replace("*", ""))


class ByClass:
    """What adapters claim, read from as few of their files as possible.

    Args:
        entries: the adapters, the weakest source first.
        sources: where they were looked for, for messages.
    """

    def __init__(self, entries: Sequence[Entry], sources: Sequence[Source]) -> None:
        self._entries = entries
        self._sources = sources

    @cached_property
    def _words(self) -> Words:
        return Words(self._entries)

    def match(self, what: str, target: ClassLike, engine: str | None) -> Match:
        """Find the adapter for a class.

        Args:
            what: ``pipeline`` or ``transformer``.
            target: the class, its name, or the names of the class and its bases.
            engine: the engine that asks; default: diffusers.

        Raises:
            AdapterNotFoundError: no adapter names the class.
            AdapterConflictError: two adapters name it with the same right.
            AdapterError: the adapter that names it is wrong.
        """
        found = self.find(what, target, engine)
        if found is None:
            asking = engine or HOME[0]
            every = partial(self._claims, what, asking, self._entries)
            raise self._no_match(what, class_names(target), asking, every)
        return found

    @staticmethod
    def _claims(what: str, engine: str, entries: Iterable[Entry]) -> list[tuple[Entry, Claim]]:
        return [
            (entry, claim)
            for entry in dict.fromkeys(entries)
            for claim in entry.claims(what, engine)
        ]

    def find(self, what: str, target: ClassLike, engine: str | None) -> Match | None:
        """Find the adapter for a class as :meth:`match` does; None where no adapter names it.

        Raises:
            AdapterConflictError: two adapters name it with the same right.
            AdapterError: the adapter that names it is wrong.
        """
        asking = engine or HOME[0]
        claims = partial(self._claims, what, asking)
        chain = class_names(target)
        how: How = "exact"
        for name in chain:
            found = [(e, c) for e, c in claims(self._words.mentioning(name)) if c.name == name]
            if found:
                break
            how = "base"
        else:
            how = "pattern"
            found = [
                (e, c)
                for e, c in claims(self._words.matching(chain[0]))
                if "*" in c.name and fits(c.name, chain[0])
            ]
            longest = max((literal_length(c.name) for _, c in found), default=0)
            found = [(e, c) for e, c in found if literal_length(c.name) == longest]
            if not found:
                return None
        # Of several claims of one file the first counts.
        own = dict(reversed(found))
        best, overridden = strongest(list(dict.fromkeys(e for e, _ in found)), asking)
        alike: list[Entry] = []
        if len(best) > 1 and what == "transformer":
            best, alike = _one_of_many(best, asking, {claim.name for claim in own.values()})
        if len(best) > 1:
            places = [own[entry].span or entry.shown for entry in best]
            raise conflict(places, f"claim the {what} class {found[0][1].name!r}")
        entry = best[0]
        spec = entry.spec_for(asking)
        return Match(spec, how, own[entry].name, entry, asking, alike, overridden)

    def _no_match(
        self,
        what: str,
        chain: Sequence[str],
        engine: str,
        claims: Callable[[], list[tuple[Entry, Claim]]],
    ) -> Exception:
        # A file that is no YAML may well be the one that was meant.
        word = re.compile(rf"\b{re.escape(chain[0])}\b")
        for entry in reversed(self._entries):
            if word.search(entry.raw) and not entry.readable:
                return AdapterError(entry.diagnostics)
        if len(self._entries) > MANY:
            known = list(self._words.classes().items())
        else:
            known = [(claim.name, entry) for entry, claim in claims()]
        return no_such_class(what, chain, known, self._entries, self._sources, engine)


def _one_of_many(
    entries: list[Entry], engine: str, names: Collection[str]
) -> tuple[list[Entry], list[Entry]]:
    """Of adapters with the same right to a transformer's class, the one that serves it.

    One that refuses is for its pipelines first. Where all others have the same layout, it makes no
    difference which of them caches a transformer alone: the one with the fewest others does, then
    the one for the most pipelines.

    Returns:
        One adapter, or all that differ, and those that would do the same.
    """
    specs = {entry: entry.spec_for(engine) for entry in entries}
    willing = [entry for entry in entries if specs[entry].refuse is None] or entries
    if any(layout(specs[e], names) != layout(specs[willing[0]], names) for e in willing):
        return willing, []

    def plainest(entry: Entry) -> tuple[int, int, str]:
        spec = specs[entry]
        return len(spec.transformers), -len(spec.pipelines), entry.name

    first, *rest = sorted(willing, key=plainest)
    return [first], rest


def layout(spec: AdapterSpec, names: Collection[str]) -> list[object]:
    """How an adapter caches the transformers of some classes, but for its settings."""
    found: list[object] = [spec.refuse, spec.guidance]
    for item in spec.transformers.values():
        if not {*classes_of(item)}.isdisjoint(names):
            blocks = (item.blocks or {}).items()
            bare = {name: dataclasses.replace(content, params=None) for name, content in blocks}
            part = (bare, item.variants, item.denoising, item.timestep)
            found += [part] if part not in found else []
    return found
