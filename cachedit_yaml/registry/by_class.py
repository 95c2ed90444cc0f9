"""Find an adapter by the class of a pipeline or a transformer."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property

from cachedit_yaml.errors import AdapterError
from cachedit_yaml.language.keys import HOME
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.registry.entry import Entry
from cachedit_yaml.registry.matching import (
    ClassLike,
    How,
    Match,
    class_names,
    conflict,
    fits,
    literal_length,
    strongest,
)
from cachedit_yaml.registry.not_found import MANY, no_such_class
from cachedit_yaml.registry.search_path import Source
from cachedit_yaml.registry.words import Words
from cachedit_yaml.rules.load import Claim


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
        asking = engine or HOME[0]

        def claims(entries: Iterable[Entry]) -> list[tuple[Entry, Claim]]:
            return [
                (entry, claim)
                for entry in dict.fromkeys(entries)
                for claim in entry.claims(what, asking)
            ]

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
                raise self._no_match(what, chain, lambda: claims(self._entries))
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
        return Match(spec, how, own[entry].name, entry, spec.engine, alike, overridden)

    def _no_match(
        self, what: str, chain: Sequence[str], claims: Callable[[], list[tuple[Entry, Claim]]]
    ) -> Exception:
        # A file that is no YAML may well be the one that was meant.
        word = re.compile(rf"\b{re.escape(chain[0])}\b")
        for entry in reversed(self._entries):
            if word.search(entry.raw) and not entry.readable:
                return AdapterError(entry.diagnostics)
        if len(self._entries) > MANY:
            known = self._words.classes()
        else:
            known = {claim.name: entry for entry, claim in claims()}
        return no_such_class(what, chain, known, self._entries, self._sources)


def _one_of_many(
    entries: list[Entry], engine: str, names: Collection[str]
) -> tuple[list[Entry], list[Entry]]:
    """Of adapters with the same right to a transformer's class, the one that serves it.

    One that refuses is for its pipelines first. Where all others have the same layout, it makes no
    difference which of them caches a transformer alone: the one with the fewest others does.

    Returns:
        One adapter, or all that differ, and those that would do the same.
    """
    specs = {entry: entry.spec_for(engine) for entry in entries}
    willing = [entry for entry in entries if specs[entry].refuse is None] or entries
    if any(layout(specs[e], names) != layout(specs[willing[0]], names) for e in willing):
        return willing, []
    first, *rest = sorted(willing, key=lambda entry: (len(specs[entry].transformers), entry.name))
    return [first], rest


def layout(spec: AdapterSpec, names: Collection[str]) -> list[object]:
    """How an adapter caches the transformers of some classes, but for its settings."""
    found: list[object] = [spec.refuse, spec.guidance]
    for item in spec.transformers.values():
        classes = {*(item.transformer_class or ())}
        classes |= {x for variant in item.variants or () for x in variant.transformer_class or ()}
        if not classes.isdisjoint(names):
            blocks = (item.blocks or {}).items()
            bare = {name: dataclasses.replace(content, params=None) for name, content in blocks}
            part = (bare, item.variants, item.denoising, item.timestep)
            found += [part] if part not in found else []
    return found
