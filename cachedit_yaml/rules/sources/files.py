"""Where the sources of packages are, and in which of their files to look. Nothing is parsed."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_CLASS: Final = re.compile(rb"^class (\w+)", re.MULTILINE)


def source_folders() -> tuple[Path, ...]:
    """The folders that ``CACHEDIT_YAML_SOURCES`` names."""
    named = os.environ.get("CACHEDIT_YAML_SOURCES", "")
    return tuple(Path(os.path.expanduser(item)) for item in named.split(os.pathsep) if item)


def find_package(name: str, folders: Sequence[Path] = ()) -> Path | None:
    """The folder of a package, of those given or of those installed; nothing is imported.

    torch is not read: what its modules are is known by their names.
    """
    if name == "torch" or not name.isidentifier():
        return None
    for folder in folders:
        for path in (folder / name, folder / "python" / name, folder):
            if path.name == name and os.path.isfile(path / "__init__.py"):
                return path
    try:
        spec = importlib.util.find_spec(name)
    except Exception:  # import hooks may raise anything
        return None
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(places[0]) if places else None


@functools.cache
def definitions(roots: tuple[Path, ...]) -> dict[str, list[Path]]:
    """The files that define each class, in folders."""
    found: dict[str, list[Path]] = {}
    for root in roots:
        for path in python_files(root):
            for name in _CLASS.findall(text_of(path)):
                found.setdefault(name.decode(), []).append(path)
    return found


@functools.cache
def python_files(folder: Path) -> tuple[Path, ...]:
    """The files of a folder and its subfolders."""
    return tuple(sorted(folder.rglob("*.py")))


@functools.lru_cache(maxsize=4096)
def text_of(path: Path) -> bytes:
    """What a file says; empty where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
