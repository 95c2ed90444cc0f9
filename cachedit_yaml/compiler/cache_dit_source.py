"""What cache-dit's source says of its settings.

Read, not imported: importing cache-dit takes seconds, for torch and diffusers come along.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

_FILES: Final = ("cache_config.py", "prune_config.py")


@functools.cache
def cache_dit_version() -> str:
    """The installed version; the module's own ``__version__`` is wrong in some wheels."""
    found = [path.name for path in _folder().parent.glob("cache_dit-*.dist-info")]
    if len(found) == 1:
        return found[0].removeprefix("cache_dit-").removesuffix(".dist-info")
    from importlib import metadata  # takes as long as all the rest of `explain`

    return metadata.version("cache-dit")


@functools.cache
def config_fields() -> Mapping[str, Mapping[str, Any]]:
    """The fields of cache-dit's configs with their defaults, by class; empty where it is not there.

    Raises:
        ImportError: the source is not as it is in the versions that are supported.
    """
    if find_spec("cache_dit") is None:
        return {}
    found: dict[str, dict[str, Any]] = {}
    folder = _folder() / "caching" / "cache_contexts"
    try:
        for name in _FILES:
            _collect(ast.parse((folder / name).read_text(encoding="utf-8")).body, found)
        return {name: found[name] for name in ("DBCacheConfig", "DBPruneConfig")}
    except (OSError, SyntaxError, ValueError, KeyError) as error:
        raise ImportError(
            f"the defaults of cache-dit in {folder} cannot be read: {error}"
        ) from None


def _folder() -> Path:
    """Where the package lies."""
    spec = find_spec("cache_dit")
    return Path(*(spec and spec.submodule_search_locations) or ("cache_dit",))


def _collect(body: Iterable[ast.stmt], found: dict[str, dict[str, Any]]) -> None:
    """Add the fields of the classes of one module, those of their bases included."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            fields = found.setdefault(node.name, {})
            for base in node.bases:
                fields |= found.get(ast.unparse(base), {})
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and item.value is not None:
                    fields[ast.unparse(item.target)] = _default(item.value)


def _default(node: ast.expr) -> Any:
    if isinstance(node, ast.Attribute):  # CacheType.DBCache
        return node.attr
    if isinstance(node, ast.Call) and ast.unparse(node).endswith("field(default_factory=list)"):
        return []
    return ast.literal_eval(node)
