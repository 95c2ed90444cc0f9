"""What an adapter says that holds anyway: repeated defaults, and sections that change nothing."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.language.views import sections_of, view
from cachedit_yaml.rules.catalogue import finding
from cachedit_yaml.rules.checks.context import mapping
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath
from cachedit_yaml.yaml.document import Document
from cachedit_yaml.yaml.removal import removal

#: Keys whose value counts as a whole.
_WHOLE: Final = ("steps", "kind")


def check_repeats(chain: Sequence[Document], engines: Sequence[str]) -> list[Diagnostic]:
    """Find what could be left out of a file without changing what it means anywhere.

    Args:
        chain: the file, and what it extends.
        engines: the engines that it serves.

    Returns:
        A finding for each mapping that repeats something, with the edits that take it out.
    """
    document, *bases = chain
    data = document.data or {}
    if "refuse" in data or not engines:
        return []
    bare = _without(document, ("cache", "profiles", "steps", "engines"))
    held = [view([bare, *bases], engine) for engine in engines]
    if data.get("kind") != AdapterSpec.kind or any("kind" in (base.data or {}) for base in bases):
        held = [_without(base, ("kind",)) for base in held]
    idle = functools.partial(_idle, chain, engines)
    found = list(_repeated(document, (), data, held, idle))
    for engine, section in sections_of(data).items():
        if not section or engine not in engines:
            continue
        rest = _without(document, ("engines",))
        base = view([rest, *bases], engine)
        path: KeyPath = ("engines", engine)
        if view(chain, engine).data == base.data:
            whole = document.positions.get(path)
            found.append(
                finding(
                    "idle-section",
                    f"the section {engine!r} changes nothing",
                    path,
                    document.key_span(path),
                    hint=f"write '{engine}: {{}}'",
                    fix=document.replacement(path, "{}", key=False) if whole else (),
                )
            )
        else:
            found += _repeated(document, path, section, [base], idle)
    return found


def _repeated(
    document: Document,
    path: KeyPath,
    data: Mapping[str, Any],
    held: Sequence[Document],
    idle: Callable[[KeyPath], bool],
) -> Iterator[Diagnostic]:
    """What one layer of a file repeats of what holds without it, in every view."""
    profiles = mapping(data.get("profiles"))
    whole: list[str] = []
    for keys in [("cache",), *(("profiles", name) for name in profiles)]:
        own = mapping(_at(data, keys))
        if "measured" in own:
            continue  # it says what was measured, whole
        names = [
            name
            for name in own
            if _holds((*keys, name), own[name], held) and idle((*path, *keys, name))
        ]
        if names and keys[0] == "profiles" and len(names) == len(own):
            whole.append(keys[1])
        elif names:
            yield _finding(document, (*path, *keys), names, held, keys)
    if whole:
        # Taken out together, so that no mapping stays behind empty.
        yield _finding(document, (*path, "profiles"), whole, held, ("profiles",))
    names = [
        name
        for name in _WHOLE
        if name in data and _holds((name,), data[name], held) and idle((*path, name))
    ]
    if names:
        yield _finding(document, path, names, held, ())


def _finding(
    document: Document,
    path: KeyPath,
    names: Sequence[str],
    held: Sequence[Document],
    keys: KeyPath,
) -> Diagnostic:
    place = held[0].value_span((*keys, names[0]))
    what = ", ".join(repr(name) for name in names[:4]) + (" ..." if len(names) > 4 else "")
    verb = "repeats" if len(names) == 1 else "repeat"
    return finding(
        "repeats-default",
        f"{what} {verb} what holds anyway",
        (*path, names[0]),
        document.key_span((*path, names[0])),
        hint="remove it" if len(names) == 1 else "remove them",
        related=(("stands here", place),) if place is not None else (),
        fix=removal(document, path, names),
    )


def _holds(path: KeyPath, value: object, held: Sequence[Document]) -> bool:
    return all(_at(base.data or {}, path) == value for base in held)


def _idle(chain: Sequence[Document], engines: Sequence[str], path: KeyPath) -> bool:
    """Whether nothing changes for any engine where a file does not say what has this path.

    A value of the defaults in `cache` may say that their `steps` shall not change it.
    """
    document, *bases = chain
    *parents, name = path
    data = dict(document.data or {})
    inner: Any = data
    for step in parents:
        inner[step] = inner = dict(inner[step])
    del inner[name]
    without = dataclasses.replace(document, data=data)

    def meant(documents: Sequence[Document], engine: str) -> Mapping[str, Any]:
        return {"kind": AdapterSpec.kind, **(view(documents, engine).data or {})}

    return all(meant([without, *bases], engine) == meant(chain, engine) for engine in engines)


def _at(data: object, path: KeyPath) -> object:
    for step in path:
        if not isinstance(data, Mapping) or step not in data:
            return _at
        data = data[step]
    return data


def _without(document: Document, names: Sequence[str]) -> Document:
    """A document that does not say some of its keys."""
    data = {k: v for k, v in (document.data or {}).items() if k not in names}
    positions = {k: v for k, v in document.positions.items() if not k or k[0] not in names}
    return dataclasses.replace(document, data=data, positions=positions)
