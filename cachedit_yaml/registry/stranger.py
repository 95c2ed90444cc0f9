"""Adapters that come with somebody else's repository or model, and stand on shipped ones only."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Final

from cachedit_yaml.language.inherit import Resolver
from cachedit_yaml.registry.entry import Entry, read_own
from cachedit_yaml.registry.hub import DEFAULT_FILE, Fetched
from cachedit_yaml.registry.names import is_path
from cachedit_yaml.registry.search_path import Source, display_path
from cachedit_yaml.yaml.diagnostics import Diagnostic
from cachedit_yaml.yaml.document import Document

_INDEX: Final = "model_index.json"


class Stranger(Entry):
    """An adapter of a repository or of a model's folder, whose `extends` names no file.

    Attributes:
        note: where it comes from.
    """

    def __init__(
        self, source: Source, path: Path, shown: str, note: str, resolve: Resolver
    ) -> None:
        super().__init__(source, path, resolve)
        self.shown = shown
        self.note = note
        self._open = partial(_read, path, shown)


def from_hub(fetched: Fetched, rank: int, resolve: Resolver) -> Stranger:
    """The adapter that was fetched from the hub.

    Args:
        fetched: the file.
        rank: that of its source.
        resolve: finds shipped adapters by name.
    """
    source = Source("hub", rank, fetched.path, "the hub")
    return Stranger(source, fetched.path, fetched.shown, fetched.note, resolve)


def beside_model(folder: str | os.PathLike[str], rank: int, resolve: Resolver) -> Stranger | None:
    """The adapter in the folder of a saved model; None where it holds none.

    Args:
        folder: the folder of a diffusers pipeline.
        rank: that of its source.
        resolve: finds shipped adapters by name.
    """
    path = Path(folder, DEFAULT_FILE)
    note = note_beside(path)
    if note is None:
        return None
    source = Source("model", rank, path, "the model's folder")
    return Stranger(source, path, display_path(path), note, resolve)


def note_beside(path: Path | None) -> str | None:
    """What is to be said of an adapter that lies in a saved model's folder; None elsewhere."""
    if path is None or path.name != DEFAULT_FILE:
        return None
    if not os.path.isfile(path) or not os.path.isfile(path.with_name(_INDEX)):
        return None
    return f"{display_path(path)} lies in the model's folder, and wins over other adapters"


def _read(path: Path, shown: str) -> tuple[Document, list[Diagnostic]]:
    document, found = read_own(path, shown)
    wanted = (document.data or {}).get("extends")
    if isinstance(wanted, str) and (is_path(wanted) or "\\" in wanted):
        document.data = None
        found.append(
            Diagnostic(
                "extends",
                f"cannot extend {wanted!r}: what comes with a model or from the hub extends "
                "shipped adapters only",
                ("extends",),
                document.value_span(("extends",)),
                hint="name a shipped one, or save the file and what it extends in a folder",
            )
        )
    return document, found
