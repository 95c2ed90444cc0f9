"""What to say when no adapter was found: the nearest names, and where was looked."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cachedit_yaml.errors import AdapterNotFoundError
from cachedit_yaml.language.keys import HOME
from cachedit_yaml.registry.entry import Entry
from cachedit_yaml.registry.search_path import ENVIRONMENT_VARIABLE, Source, display_path
from cachedit_yaml.yaml.diagnostics import nearest

#: More files than this are not all parsed for the sake of a message.
MANY: Final = 500


def no_such_name(
    name: str, entries: Sequence[Entry], sources: Sequence[Source], engine: str | None = None
) -> Exception:
    """No adapter has this name."""
    known = [(entry.name, entry) for entry in entries]
    near = _near(name, known, engine) or ["cachedit-yaml list prints the names"]
    lines = [f"no adapter is called {name!r}", *near, *_looked_in(entries, sources)]
    return AdapterNotFoundError("\n  ".join(lines))


def no_such_file(path: Path, entries: Sequence[Entry]) -> Exception:
    """There is no file at a path."""
    lines = [f"no such file or folder: {path}"]
    beside: list[Path] = []
    with contextlib.suppress(OSError, ValueError):
        beside = list(path.parent.iterdir())
    near = nearest(path.name, [item.name for item in beside if os.path.isdir(item) or item.suffix])
    if near:
        lines.append(f"nearest: {path.with_name(near[0])}")
    named = [entry for entry in entries if entry.name == path.stem]
    if named:
        lines.append(f"there is an adapter of this name: {named[0].label} ({named[0].shown})")
    return AdapterNotFoundError("\n  ".join(lines))


def no_such_class(
    what: str,
    chain: Sequence[str],
    known: Sequence[tuple[str, Entry]],
    entries: Sequence[Entry],
    sources: Sequence[Source],
    engine: str,
) -> Exception:
    """No adapter claims this class.

    Args:
        what: pipeline or transformer.
        chain: the names of the class and its bases.
        known: classes, each with an adapter that claims it.
        entries: every adapter file.
        sources: where was looked.
        engine: the engine that asks.
    """
    key = "pipelines: [{}]" if what == "pipeline" else "class: [{}]"
    bases = [name for name in chain[1:] if name not in ("ABC", "Generic", "Module")]
    derived = f" (derived from {', '.join(bases[:4])})" if bases else ""
    lines = [
        f"no adapter for the {what} class {chain[0]!r}{derived}",
        *_near(chain[0], known, engine),
        *_looked_in(entries, sources),
        "to have one written and proved from one short call: cachedit-yaml init TARGET"
        + (", or enable(pipeline, 'auto')" if what == "pipeline" and engine in HOME else ""),
        f"to add one by hand, put a YAML file with '{key.format(chain[0])}' into a folder and name "
        f"the folder in {ENVIRONMENT_VARIABLE}",
    ]
    return AdapterNotFoundError("\n  ".join(lines))


def _near(name: str, known: Sequence[tuple[str, Entry]], engine: str | None) -> list[str]:
    """The nearest names, each with the file that serves the engine; those of others come last."""
    near = nearest(name, [word for word, _ in known], limit=3)

    def right(entry: Entry) -> tuple[int, int]:
        return entry.right(engine or HOME[0]), entry.source.rank

    best = [max((e for word, e in known if word == found), key=right) for found in near]
    pairs = sorted(zip(near, best, strict=True), key=lambda pair: not right(pair[1])[0])
    shown = ", ".join(f"{word} ({entry.shown})" for word, entry in pairs)
    return [f"nearest: {shown}"] if near else []


def _looked_in(entries: Sequence[Entry], sources: Sequence[Source]) -> list[str]:
    counts: dict[Source, int] = {}
    for entry in entries:
        counts[entry.source] = counts.get(entry.source, 0) + 1
    places = [
        f"{source.label} ({display_path(source.root)}, {counts.get(source, 0)} files)"
        for source in sources
    ]
    lines = [f"looked in: {', '.join(places) or 'no place at all'}"]
    few = entries if len(entries) <= MANY else ()
    broken = [entry.shown for entry in few if not entry.readable]
    if broken:
        lines.append(f"not readable: {', '.join(broken[:5])}; see 'cachedit-yaml validate'")
    return lines
