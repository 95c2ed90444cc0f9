"""Names and classes that two adapters claim with the same right."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cachedit_yaml.registry.entry import Entry
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath


def conflicts(entries: Iterable[Entry]) -> list[Diagnostic]:
    """Names and classes that two files of one source claim; errors for `validate`.

    Transformer classes count only among adapters without pipelines: several pipelines
    rightly share a transformer.
    """
    seen: dict[tuple[object, ...], tuple[Entry, KeyPath]] = {}
    found: list[Diagnostic] = []
    for entry in entries:
        claims: list[tuple[str, str, KeyPath]] = [("name", entry.name, ("name",))]
        claims += [("pipeline", *claim) for claim in entry.claims("pipeline")]
        if not entry.data.get("pipelines"):
            claims += [("transformer", *claim) for claim in entry.claims("transformer")]
        for what, name, path in claims:
            key = (_place(entry), entry.engine, what, name)
            first, where = seen.setdefault(key, (entry, path))
            other = first.span(where)
            if first is not entry:
                noun = "adapter name" if what == "name" else f"{what} class"
                found.append(
                    Diagnostic(
                        "conflict",
                        f"the {noun} {name!r} is taken by {first.shown}",
                        path,
                        entry.span(path),
                        hint="remove it from one of the two files",
                        related=(("taken here", other),) if other is not None else (),
                    )
                )
    return found


def _place(entry: Entry) -> Path:
    """Where an adapter lies; files that are named one by one lie together in their folder."""
    root = entry.source.root
    return root if root.is_dir() else root.parent
