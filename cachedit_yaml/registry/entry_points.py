"""Packages that bring adapters along, by the entry points of their distributions."""

from __future__ import annotations

import functools
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final, NamedTuple

ENTRY_POINT_GROUP: Final = "cachedit_yaml.adapters"


class Package(NamedTuple):
    """What one entry point names.

    Attributes:
        name: the entry point's name; empty where none could be read.
        roots: the folders of the package.
        problem: why there are none, or None.
    """

    name: str
    roots: tuple[Path, ...] = ()
    problem: str | None = None


@functools.lru_cache(maxsize=8)
def packages_with_adapters(search_path: tuple[str, ...]) -> tuple[Package, ...]:
    """The packages that name themselves in the group, without importing them.

    Args:
        search_path: ``sys.path``, on which the answer depends.
    """
    if _surely_none(search_path):
        return ()
    import importlib.metadata

    try:
        found = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    except Exception as error:  # another package's broken metadata is not ours to fail on
        return (Package("", problem=f"cannot be read: {error}"),)
    result = []
    for point in sorted(found, key=lambda item: (item.name, item.value)):
        try:
            roots, why = _package_folders(point.value.partition(":")[0].strip())
        except Exception as error:  # an import hook of another package may raise anything
            roots, why = (), str(error)
        problem = None if roots else f"{point.value!r} cannot be used: {why}"
        result.append(Package(point.name, roots, problem))
    return tuple(result)


def _surely_none(search_path: tuple[str, ...]) -> bool:
    """Whether a look at the folders shows that no distribution has such an entry point.

    Nearly always so, and importing :mod:`importlib.metadata` takes as long as reading thirty
    adapters. What is not an ordinary folder of distributions is left to that module.
    """
    finders = [item for item in sys.meta_path if hasattr(item, "find_distributions")]
    if finders != [PathFinder]:
        return False
    try:
        return not any(_may_name_group(path or os.curdir) for path in search_path)
    except OSError:
        return False


def _may_name_group(path: str) -> bool:
    if not os.path.isdir(path):
        return os.path.exists(path)  # an archive
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name.lower()
            if name.endswith(".egg"):
                return True
            if not name.endswith((".dist-info", ".egg-info")):
                continue
            try:
                with open(os.path.join(entry.path, "entry_points.txt"), "rb") as handle:
                    if ENTRY_POINT_GROUP.encode() in handle.read():
                        return True
            except (FileNotFoundError, NotADirectoryError):
                continue  # most have none, and an old egg-info is a file
    return False


def _package_folders(name: str) -> tuple[tuple[Path, ...], str]:
    """The folders of a package, found without importing it."""
    import importlib.util

    top, *inner = name.split(".")
    # Only for a top-level name does find_spec import nothing.
    spec = importlib.util.find_spec(top)
    if spec is None:
        return (), f"there is no package {top!r}"
    folders = [Path(place, *inner) for place in spec.submodule_search_locations or ()]
    existing = tuple(folder for folder in folders if os.path.isdir(folder))
    return existing, "it is not a package with a folder of its own"
