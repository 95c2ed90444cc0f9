"""What lies under every adapter: ``defaults.yaml`` in the folder of the shipped ones.

Common settings first, then those of the adapter's kind of model, then those of the engine.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

from cachedit_yaml.language.merge import lay_over
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.yaml.document import Document
from cachedit_yaml.yaml.reader import read_file

#: The name of the file, which no adapter may have.
DEFAULTS: Final = "defaults.yaml"
_NOT_SETTINGS: Final = ("schema", "kinds", "engines")


def shipped_folder() -> Path | None:
    """The adapters of this package: inside it when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "adapters", package.parent / "adapters"):
        if folder.is_dir():
            return folder
    return None


def defaults_for(kind: str, engine: str) -> Document:
    """The defaults for a kind of model in an engine; empty where the file is missing or broken."""
    folder = shipped_folder()
    if folder is None:
        return Document(DEFAULTS, {})
    path = folder / DEFAULTS
    try:
        stamp = path.stat().st_mtime_ns
    except OSError:
        return Document(DEFAULTS, {})
    return _merged(path, stamp, kind, engine)


@functools.lru_cache(maxsize=64)
def _merged(path: Path, stamp: int, kind: str, engine: str) -> Document:
    document = _read(path, stamp)
    result = Document(document.name, {}, path=path)
    if document.data is None:
        return result
    result = lay_over(result, document, AdapterSpec, without=_NOT_SETTINGS)
    for place, name in (("kinds", kind), ("engines", engine)):
        sections = document.data.get(place)
        if isinstance(sections, dict) and isinstance(sections.get(name), dict):
            result = lay_over(result, document, AdapterSpec, below=(place, name))
    return result


@functools.lru_cache(maxsize=4)
def _read(path: Path, stamp: int) -> Document:
    return read_file(path, DEFAULTS)[0]
