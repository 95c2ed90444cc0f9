"""What to say when no adapter was found: the nearest names, and where was looked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from cachedit_yaml.errors import AdapterNotFoundError
from cachedit_yaml.registry.entry import Entry
from cachedit_yaml.registry.search_path import ENVIRONMENT_VARIABLE, Source, display_path
from cachedit_yaml.yaml.diagnostics import nearest

#: More files than this are not all parsed for the sake of a message.
MANY: Final = 500


def no_such_name(name: str, entries: Sequence[Entry], sources: Sequence[Source]) -> Exception:
    """No adapter has this name."""
    known = {entry.name: entry for entry in entries}
    lines = [f"no adapter is called {name!r}", *_near(name, known), *_looked_in(entries, sources)]
    return AdapterNotFoundError("\n  ".join(lines))


def no_such_class(
    what: str,
    chain: Sequence[str],
    known: Mapping[str, Entry],
    entries: Sequence[Entry],
    sources: Sequence[Source],
) -> Exception:
    """No adapter claims this class.

    Args:
        what: pipeline or transformer.
        chain: the names of the class and its bases.
        known: classes that adapters claim.
        entries: every adapter file.
        sources: where was looked.
    """
    key = "pipelines: [{}]" if what == "pipeline" else "class: [{}]"
    bases = [name for name in chain[1:] if name not in ("ABC", "Generic", "Module")]
    derived = f" (derived from {', '.join(bases[:4])})" if bases else ""
    lines = [
        f"no adapter for the {what} class {chain[0]!r}{derived}",
        *_near(chain[0], known),
        *_looked_in(entries, sources),
        f"to add one, put a YAML file with '{key.format(chain[0])}' into a folder and name the "
        f"folder in {ENVIRONMENT_VARIABLE}",
    ]
    return AdapterNotFoundError("\n  ".join(lines))


def _near(name: str, known: Mapping[str, Entry]) -> list[str]:
    near = nearest(name, known, limit=3)
    shown = ", ".join(f"{word} ({known[word].shown})" for word in near)
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
