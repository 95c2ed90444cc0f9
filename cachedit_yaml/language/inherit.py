"""`extends`: the chain of files that an adapter stands on.

What they come to together is :mod:`cachedit_yaml.language.views`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

from cachedit_yaml.errors import AdapterConflictError, AdapterNotFoundError
from cachedit_yaml.yaml.diagnostics import Diagnostic
from cachedit_yaml.yaml.document import Document
from cachedit_yaml.yaml.reader import leads_out, read_file

#: From the name of an adapter, and the file that extends it, to the file that holds it.
Resolver: TypeAlias = Callable[[str, Path | None], Path]

MAX_DEPTH: Final = 8
_IN_BRACKETS: Final = re.compile(r" \([^)]*\)")


def bases_of(
    document: Document, resolve: Resolver | None = None
) -> tuple[list[Document], list[Diagnostic]]:
    """Read everything that a document extends.

    Args:
        document: the document.
        resolve: finds an adapter by name; raises AdapterNotFoundError. Without it only paths can
            be extended.

    Returns:
        The documents, the nearest first, and what is wrong with the chain.
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
    return chain[1:], diagnostics


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
    if "schema" not in (base.data or {}) and _elsewhere(path, current.path):
        # Nothing is said of what a stranger points to elsewhere, lest a log shows a secret.
        return wrong(f"cannot extend {wanted!r}: there is no adapter")
    if base.data is None:
        reason = found[0].message if found else "nothing in it"
        _, mine = wrong(f"cannot extend {wanted!r}: {reason}")
        # That it cannot be opened is said already, and the file has no line to show.
        return None, mine + [item for item in found if item.code != "unreadable"]
    if "schema" not in base.data:
        return wrong(f"cannot extend {wanted!r}: it is no adapter, because it has no key 'schema'")
    return base, found


def _locate(wanted: str, origin: Path | None, resolve: Resolver | None) -> Path:
    if "/" not in wanted and "\\" not in wanted and not wanted.endswith((".yaml", ".yml")):
        if resolve is None:
            raise AdapterNotFoundError(f"no adapter is called {wanted!r} where none is looked for")
        return resolve(wanted, origin)
    if Path(wanted).is_absolute():
        raise AdapterNotFoundError("the path must be relative to this file")
    if origin is None:
        raise AdapterNotFoundError("a path needs a file that it is relative to; use a name")
    # An adapter is data from a stranger, and messages quote the lines of what it extends.
    if not wanted.endswith((".yaml", ".yml")):
        raise AdapterNotFoundError("a path must end with .yaml or .yml")
    return origin.parent / wanted


def _elsewhere(path: Path, origin: Path | None) -> bool:
    """Whether a file lies outside of the folder of the one that names it."""
    return origin is not None and os.path.isfile(path) and leads_out(path, origin.parent)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.resolve() == other.resolve()
    except (OSError, RuntimeError, ValueError):
        return one == other
