"""`extends`: put an adapter on top of another one.

The merge works on plain data, before anything is checked, so that what an adapter inherits is
checked like what it says itself; each value keeps the place of the file that it came from.

- Inherited: everything but :data:`OWN_KEYS`, which say what a file is, whom it serves and how
  it is tried.
- Mappings merge key by key. A list, a text, a number replaces what it inherits. So do the
  mappings that are one choice (`scm`, `calibrator`, `guidance`, `step_split`): half of one mask
  and half of another make none.
- A list's shorthand counts as its mapping: on top of ``blocks: Pattern_2``, writing
  ``blocks: {params: {...}}`` keeps the pattern.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from cachedit_yaml.errors import AdapterConflictError, AdapterNotFoundError
from cachedit_yaml.language import spec
from cachedit_yaml.language.shapes import keys_of, nested
from cachedit_yaml.rules.checks import check_version
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath
from cachedit_yaml.yaml.document import Document
from cachedit_yaml.yaml.reader import read_file

#: From the name of an adapter, and the file that extends it, to the file that holds it.
Resolver: TypeAlias = Callable[[str, Path | None], Path]

#: Keys that are never inherited.
OWN_KEYS: Final = frozenset(
    {"schema", "name", "description", "pipelines", "models", "extends", "probe"}
)
MAX_DEPTH: Final = 8
_IN_BRACKETS: Final = re.compile(r" \([^)]*\)")


def resolve_extends(
    document: Document, resolve: Resolver | None = None
) -> tuple[Document, list[Diagnostic]]:
    """Merge a document with everything that it extends.

    Args:
        document: the document; it is not changed.
        resolve: finds an adapter by name; raises AdapterNotFoundError.

    Returns:
        A document with the merged data and the place of each value, and what is wrong with the
        chain of bases. The document itself is returned when it extends nothing.
    """
    chain: list[Document] = [document]
    diagnostics: list[Diagnostic] = []
    while True:
        current = chain[-1]
        assert current.data is not None
        wanted = current.data.get("extends")
        if not isinstance(wanted, str):
            break
        base, found = _base(chain, wanted, resolve)
        diagnostics += found
        if base is None or base.data is None:
            break
        chain.append(base)
    result = chain.pop()
    for child in reversed(chain):
        result = _on_top(child, result)
    return result, diagnostics


def _base(
    chain: list[Document], wanted: str, resolve: Resolver | None
) -> tuple[Document | None, list[Diagnostic]]:
    current = chain[-1]
    span = current.value_span(("extends",))

    def wrong(message: str, **more: Any) -> tuple[None, list[Diagnostic]]:
        return None, [Diagnostic("extends", message, ("extends",), span, **more)]

    if len(chain) > MAX_DEPTH:
        return wrong(f"more than {MAX_DEPTH} adapters extend each other")
    try:
        path = _locate(wanted, current.path, resolve)
    except (AdapterNotFoundError, AdapterConflictError) as error:
        # What follows the first line says where was looked, which is of no use here.
        message, *more = str(error).splitlines()
        near = next((line.strip() for line in more if line.strip().startswith("nearest:")), None)
        return wrong(
            f"cannot extend {wanted!r}: {message.rstrip(':')}",
            hint=_IN_BRACKETS.sub("", near) if near else None,
        )
    for step, document in enumerate(chain):
        if document.path is not None and _same(document.path, path):
            if step == len(chain) - 1:
                return wrong("an adapter cannot extend itself")
            names = " -> ".join([*(d.name for d in chain[step:]), document.name])
            return wrong(f"the adapters extend each other in a circle: {names}")
    # Beside a file that was named relatively, its base is named relatively too.
    beside = current.path is not None and path.parent == current.path.parent
    name = str(Path(current.name).with_name(path.name)) if beside else str(path)
    base, found = read_file(path, name)
    if base.data is None:
        reason = found[0].message if found else "nothing in it"
        _, mine = wrong(f"cannot extend {wanted!r}: {reason}")
        # That it cannot be opened is said already, and the file has no line to show.
        return None, mine + [item for item in found if item.code != "unreadable"]
    if "schema" not in base.data:
        return wrong(f"cannot extend {wanted!r}: it is no adapter, because it has no key 'schema'")
    return base, [*found, *check_version(base.data, base)]


def _locate(wanted: str, origin: Path | None, resolve: Resolver | None) -> Path:
    if "/" not in wanted and "\\" not in wanted and not wanted.endswith((".yaml", ".yml")):
        if resolve is None:
            from cachedit_yaml.registry.registry import Registry

            resolve = Registry.load().resolve
        return resolve(wanted, origin)
    if Path(wanted).is_absolute():
        raise AdapterNotFoundError("the path must be relative to this file")
    if origin is None:
        raise AdapterNotFoundError("a path needs a file that it is relative to; use a name")
    # An adapter is data from a stranger, and messages quote the lines of what it extends.
    if not wanted.endswith((".yaml", ".yml")):
        raise AdapterNotFoundError("a path must end with .yaml or .yml")
    return origin.parent / wanted


def _same(one: Path, other: Path) -> bool:
    try:
        return one.resolve() == other.resolve()
    except (OSError, RuntimeError):
        return one == other


def _on_top(child: Document, base: Document) -> Document:
    assert child.data is not None
    assert base.data is not None
    merged = Document(child.name, path=child.path, sources={**base.sources, **child.sources})
    merged.positions = {
        path: place for path, place in base.positions.items() if path and path[0] not in OWN_KEYS
    }
    inherited = {k: v for k, v in base.data.items() if k not in OWN_KEYS}
    merged.data = _merge(child.data, inherited, spec.AdapterSpec, (), child, merged)
    _place((), child, merged)
    return merged


def _merge(
    own: Mapping[str, Any],
    base: Mapping[str, Any],
    cls: type | None,
    path: KeyPath,
    child: Document,
    merged: Document,
) -> dict[str, Any]:
    """Merge two mappings; `cls` is what the language has here, None below free keys."""
    result = dict(base)
    keys = keys_of(cls) if cls is not None else {}
    for name, value in own.items():
        here = (*path, name)
        key = keys.get(name)
        old = base.get(name)
        atomic = key is not None and key.rules.get("atomic")
        if isinstance(value, Mapping) and isinstance(old, Mapping) and not atomic:
            inner = nested(key) if key is not None else None
            if inner is not None and key is not None and inner[1] == "NAME":
                result[name] = _merge_named(
                    value, old, inner[0], key.rules.get("shorthand"), here, child, merged
                )
            else:
                below = inner[0] if inner is not None else None
                result[name] = _merge(value, old, below, here, child, merged)
            _place(here, child, merged)
        else:
            result[name] = value
            _take(here, child, merged)
    return result


def _merge_named(
    own: Mapping[str, Any],
    base: Mapping[str, Any],
    cls: type,
    shorthand: str | None,
    path: KeyPath,
    child: Document,
    merged: Document,
) -> dict[str, Any]:
    result = dict(base)
    for name, value in own.items():
        here = (*path, name)
        old = base.get(name)
        if shorthand and isinstance(old, str) and isinstance(value, Mapping):
            place = merged.positions.get(here)
            if place is not None:
                spelled_out = (*here, shorthand)
                merged.positions[spelled_out] = place
            old = {shorthand: old}
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            result[name] = _merge(value, old, cls, here, child, merged)
            _place(here, child, merged)
        else:
            result[name] = value
            _take(here, child, merged)
    return result


def _place(path: KeyPath, child: Document, merged: Document) -> None:
    """Let the child's place of one key replace the base's. A dict from Python has no places."""
    merged.positions.pop(path, None)
    if path in child.positions:
        merged.positions[path] = child.positions[path]


def _take(path: KeyPath, child: Document, merged: Document) -> None:
    """Let the child's places below `path` replace the base's."""
    size = len(path)
    for old in [p for p in merged.positions if p[:size] == path]:
        del merged.positions[old]
    for new, place in child.positions.items():
        if new[:size] == path:
            merged.positions[new] = place
