"""From what somebody writes for an adapter to the adapters that it means.

A name (``flux``), one with its engine (``ENGINE/flux``), the class of a pipeline or transformer, a
file, ``org/repo`` on the hub, ``-`` for what comes from another program; where several may be
meant, folders and patterns.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cachedit_yaml.errors import AdapterNotFoundError
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.registry.entry import Entry, TextEntry
from cachedit_yaml.registry.names import of_engine
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.registry.search_path import Source, yaml_files
from cachedit_yaml.registry.stranger import Stranger
from cachedit_yaml.yaml.reading import MAX_BYTES

STDIN = "-"


class Named(NamedTuple):
    """An adapter that somebody asked for.

    Attributes:
        entry: its file.
        engine: the engine as which it is wanted; None for the first that it serves.
        note: how it was found, where that is worth saying.
    """

    entry: Entry
    engine: str | None
    note: str | None = None

    @property
    def spec(self) -> AdapterSpec:
        """What it means in that engine.

        Raises:
            AdapterError: the file is wrong.
        """
        return self.entry.spec_for(self.engine)


def find_one(registry: Registry, text: str, engine: str | None = None) -> Named:
    """The adapter that a text means.

    Args:
        registry: where to look.
        text: a name, a class, a file, a name on the hub, or ``-``.
        engine: the engine that asks.

    Raises:
        AdapterNotFoundError: there is none.
        AdapterConflictError: several have the same right to it.
    """
    if text == STDIN:
        return Named(TextEntry(read_stdin(), "<stdin>", registry.resolve), engine)
    if os.path.isfile(os.path.join(text, "model_index.json")):
        raise AdapterNotFoundError(
            f"{text} is the folder of a model, not an adapter; a model is given as --model {text}"
        )
    engine, name = of_engine(text, engine)
    try:
        entry = registry.find(name, engine)
        return Named(entry, engine, entry.note if isinstance(entry, Stranger) else None)
    except AdapterNotFoundError as error:
        name = str(name)
        if not name.isidentifier():
            raise
        failures = [error]
        for match in (registry.match_pipeline, registry.match_transformer):
            try:
                found = match(name, engine)
            except AdapterNotFoundError as other:
                failures.append(other)
                continue
            return Named(found.entry, engine, found.note)
        # Most classes have a capital, adapters do not. What has names that are near was meant.
        by_name, *by_class = failures
        order = [*by_class, by_name] if name[0].isupper() else failures
        raise next((item for item in order if "nearest:" in str(item)), order[0]) from None


def find_chosen(registry: Registry, text: str | None, model: Path) -> Named | None:
    """The adapter that somebody chose for a model: by name, or by a file in the model's folder.

    Returns:
        None where neither is there, and the pipeline's class decides.

    Raises:
        As :func:`find_one`.
    """
    if text is not None:
        return find_one(registry, text)
    beside = registry.beside(model)
    return None if beside is None else Named(beside, None, beside.note)


def find_all(registry: Registry, texts: Sequence[str], engine: str | None = None) -> list[Named]:
    """The adapters that some texts mean; all that can be found where there is no text.

    Args:
        registry: where to look.
        texts: as for :func:`find_one`, and folders and patterns.
        engine: the engine that asks.

    Raises:
        AdapterNotFoundError: one of them means none.
        AdapterConflictError: several have the same right to one.
    """
    if not texts:
        return [Named(entry, engine) for entry in registry.adapters()]
    found: dict[Path, Named] = {}
    for text in texts:
        paths = files_and_folders(text)
        if not paths:
            named = find_one(registry, text, engine)
            found.setdefault(named.entry.path, named)
        for root in paths:
            source = Source("argument", len(registry.sources), root, "argument")
            for path in yaml_files(root):
                entry = registry.find_file(path, source)
                found.setdefault(path, Named(entry, engine))
    return list(found.values())


def files_and_folders(text: str) -> list[Path]:
    """The files and folders that a path or pattern names; none where it is a name.

    Raises:
        AdapterNotFoundError: a folder holds no adapter files, or a pattern fits none.
    """
    path = Path(os.path.expanduser(text))
    found: list[Path] = []
    # A file whose name holds a bracket is that file, not a pattern.
    if os.path.exists(path) or os.path.islink(path):
        found = [path]
    elif glob.has_magic(text):
        found = [Path(item) for item in sorted(glob.glob(str(path), recursive=True))]
        if not found:
            raise AdapterNotFoundError(f"no such file or folder: {text}")
    for item in found:
        if os.path.isdir(item) and not yaml_files(item):
            raise AdapterNotFoundError(f"no adapter files (*.yaml, *.yml) in {item}")
    return found


def read_stdin() -> bytes:
    """What another program wrote, as far as an adapter may be long."""
    return sys.stdin.buffer.read(MAX_BYTES + 1)


def specs(named: Sequence[Named]) -> Iterator[AdapterSpec]:
    """The adapters with their probes, once for each engine that is asked for.

    Raises:
        AdapterError: one of them is wrong.
    """
    for item in named:
        yield from item.entry.to_prove(item.engine)
