"""What somebody means who names an adapter: a name, ``engine/name`` or a path."""

from __future__ import annotations

import os

from cachedit_yaml.engines import NAMES
from cachedit_yaml.registry.search_path import SUFFIXES


def of_engine(
    name: str | os.PathLike[str], engine: str | None = None
) -> tuple[str | None, str | os.PathLike[str]]:
    """Take the engine off a name such as ``engine/flux``.

    Args:
        name: a name or a path.
        engine: the engine where the name has none.
    """
    if isinstance(name, str):
        folder, _, rest = name.rpartition("/")
        if folder.replace("-", "_") in NAMES and not rest.endswith(SUFFIXES):
            return folder.replace("-", "_"), rest
    return engine, name


def is_path(text: str) -> bool:
    """Whether a text is a path rather than the name of an adapter."""
    return "/" in text or os.sep in text or text.endswith(SUFFIXES)
