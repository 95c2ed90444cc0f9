"""Names and classes that two adapters claim with the same right."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from cachedit_yaml.registry.entry import Entry
from cachedit_yaml.registry.matching import layout
from cachedit_yaml.rules.adapter import Claim
from cachedit_yaml.rules.catalogue import finding
from cachedit_yaml.yaml.diagnostics import Diagnostic


def conflicts(entries: Iterable[Entry]) -> list[Diagnostic]:
    """Names and classes that two files of one source claim for one engine.

    Transformer classes count only among adapters without pipelines (several pipelines rightly
    share a transformer) that would not do the same to it.
    """
    seen: dict[tuple[object, ...], tuple[Entry, Claim]] = {}
    found: dict[tuple[object, ...], Diagnostic] = {}
    for entry in entries:
        for engine in entry.engines if entry.readable else ():
            for what, claim in _claims(entry, engine):
                right = (_place(entry), engine, entry.right(engine))
                first, other = seen.setdefault((*right, what, claim.name), (entry, claim))
                if first is entry or (what, claim.name, entry, first) in found:
                    continue
                if what == "transformer" and _alike(first, entry, engine, claim.name):
                    continue
                noun = "adapter name" if what == "name" else f"{what} class"
                found[what, claim.name, entry, first] = finding(
                    "conflict",
                    f"the {noun} {claim.name!r} is taken by {first.shown}",
                    claim.path,
                    claim.span,
                    hint="remove it from one of the two files",
                    related=(("taken here", other.span),) if other.span is not None else (),
                )
    return list(found.values())


def _claims(entry: Entry, engine: str) -> Iterator[tuple[str, Claim]]:
    span = entry.document.value_span(("name",))
    yield "name", Claim(entry.name, ("name",), span)
    pipelines = list(entry.claims("pipeline", engine))
    yield from (("pipeline", claim) for claim in pipelines)
    if not pipelines:
        yield from (("transformer", claim) for claim in entry.claims("transformer", engine))


def _alike(one: Entry, other: Entry, engine: str, name: str) -> bool:
    if one.checked_spec is None or other.checked_spec is None:
        return False
    return layout(one.spec_for(engine), {name}) == layout(other.spec_for(engine), {name})


def _place(entry: Entry) -> Path:
    """Where an adapter lies; files that are named one by one lie together in their folder."""
    root = entry.source.root
    return root if os.path.isdir(root) else root.parent
