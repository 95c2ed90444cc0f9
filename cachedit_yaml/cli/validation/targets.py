"""From what somebody writes on the command line to files."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from cachedit_yaml.registry.search_path import yaml_files


class NothingFoundError(Exception):
    """A path, a pattern or a folder yields no file; the message says which."""


def expand(patterns: Iterable[str]) -> list[Path]:
    """The files and folders that paths and patterns name; ``-`` is left out.

    Raises:
        NothingFoundError: one of them names nothing, or a folder holds no adapter files.
    """
    found: list[Path] = []
    for pattern in patterns:
        if pattern == "-":
            continue
        named = _expand(pattern)
        if not named:
            raise NothingFoundError(f"no such file or folder: {pattern}")
        found += named
    for path in found:
        if path.is_dir() and not yaml_files(path):
            raise NothingFoundError(f"no adapter files (*.yaml, *.yml) in {path}")
    return found


def _expand(pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    # A file whose name holds a bracket is that file, not a pattern.
    if path.exists() or path.is_symlink():
        return [path]
    if glob.has_magic(pattern):
        return [Path(found) for found in sorted(glob.glob(pattern, recursive=True))]
    return []
