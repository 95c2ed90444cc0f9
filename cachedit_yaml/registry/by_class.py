"""Find an adapter by the class of a pipeline or a transformer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TypeAlias

from cachedit_yaml.errors import AdapterError
from cachedit_yaml.registry.entry import Entry
from cachedit_yaml.registry.matching import (
    ClassLike,
    How,
    Match,
    class_names,
    fits,
    literal_length,
    strongest,
)
from cachedit_yaml.registry.not_found import MANY, no_such_class
from cachedit_yaml.registry.search_path import Source
from cachedit_yaml.registry.words import Words
from cachedit_yaml.yaml.diagnostics import KeyPath

#: A claimed name, the file, and where it stands there.
_Claim: TypeAlias = tuple[str, Entry, KeyPath]


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

    def _claims(self, what: str, entries: Iterable[Entry]) -> list[_Claim]:
        """What files claim, parsed now; each file once."""
        return [
            (name, entry, path)
            for entry in dict.fromkeys(entries)
            for name, path in entry.claims(what)
        ]

    def match(self, what: str, target: ClassLike, engine: str | None) -> Match:
        """Find the adapter for a class.

        Args:
            what: ``pipeline`` or ``transformer``.
            target: the class, its name, or the names of the class and its bases.
            engine: the engine that asks.

        Raises:
            AdapterNotFoundError: no adapter names the class.
            AdapterConflictError: two adapters name it with the same right.
            AdapterError: the adapter that names it is wrong.
        """
        chain = class_names(target)
        how: How = "exact"
        claims: list[_Claim] = []
        for name in chain:
            found = self._claims(what, self._words.mentioning(name))
            claims = [claim for claim in found if claim[0] == name]
            if claims:
                break
            how = "base"
        else:
            how = "pattern"
            found = self._claims(what, self._words.matching(chain[0]))
            claims = [claim for claim in found if "*" in claim[0] and fits(claim[0], chain[0])]
            longest = max((literal_length(name) for name, _, _ in claims), default=0)
            claims = [claim for claim in claims if literal_length(claim[0]) == longest]
            if not claims:
                raise self._no_match(what, chain)
        # Of several claims of one file the first counts.
        places = {entry: path for _, entry, path in reversed(claims)}
        names = {entry: name for name, entry, _ in reversed(claims)}
        entry, *others = strongest(
            list(dict.fromkeys(entry for _, entry, _ in claims)),
            f"claim the {what} class {claims[0][0]!r}",
            places,
            engine,
        )
        return Match(entry.spec, how, names[entry], entry, others)

    def _no_match(self, what: str, chain: Sequence[str]) -> Exception:
        # A file that is no YAML may well be the one that was meant.
        word = re.compile(rf"\b{re.escape(chain[0])}\b")
        for entry in reversed(self._entries):
            if word.search(entry.raw) and not entry.readable:
                return AdapterError(entry.diagnostics)
        if len(self._entries) > MANY:
            known = self._words.classes()
        else:
            known = {name: entry for name, entry, _ in self._claims(what, self._entries)}
        return no_such_class(what, chain, known, self._entries, self._sources)
