"""Where adapters are looked for.

In this order, of which a later place wins over an earlier one:

1. ``shipped``: the adapters of this package.
2. ``entry-point``: packages that name themselves in the group ``cachedit_yaml.adapters``.
3. ``environment``: the folders and files of ``CACHEDIT_YAML_PATH``, each later one over the
   earlier ones.
4. ``argument``: what the caller or ``--adapters`` names, again the later over the earlier.

An adapter may also be named on the hub (:mod:`cachedit_yaml.registry.hub`), or lie in the folder of
the model that is loaded, which wins over all that are found by class.

So what somebody says for one run wins over what was set up for a machine, and that over what a
package brings along.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from cachedit_yaml.errors import AdapterNotFoundError
from cachedit_yaml.language.defaults import DEFAULTS, shipped_folder
from cachedit_yaml.registry.entry_points import packages_with_adapters
from cachedit_yaml.rules.catalogue import finding
from cachedit_yaml.yaml.diagnostics import Diagnostic

SourceKind: TypeAlias = Literal["shipped", "entry-point", "environment", "argument", "hub", "model"]

ENVIRONMENT_VARIABLE: Final = "CACHEDIT_YAML_PATH"
SUFFIXES: Final = (".yaml", ".yml")
#: The folder, beside adapters, that holds their probes.
PROBES: Final = "probes"


@dataclass(frozen=True)
class Source:
    """A folder or file that holds adapters.

    Attributes:
        kind: how it came into the search.
        rank: of two sources, the one of the higher rank wins.
        root: the folder or file.
        label: how messages call it.
    """

    kind: SourceKind
    rank: int
    root: Path
    label: str


def find_sources(
    extra: Iterable[str | os.PathLike[str]] = (), environ: Mapping[str, str] | None = None
) -> tuple[list[Source], list[Diagnostic]]:
    """List the places to look in, the weakest first.

    Args:
        extra: folders or files that win over everything else; a single one is fine too.
        environ: the environment; default: ``os.environ``.

    Returns:
        The sources, and a warning for each place that was named and cannot be used.

    Raises:
        AdapterNotFoundError: a folder or file of `extra` does not exist.
    """
    environ = os.environ if environ is None else environ
    if isinstance(extra, (str, os.PathLike)):
        extra = [extra]
    sources: list[Source] = []
    problems: list[Diagnostic] = []
    folder = shipped_folder()
    if folder is not None:
        sources.append(Source("shipped", 0, folder, "shipped adapters"))
    for name, roots, problem in packages_with_adapters(tuple(sys.path)):
        if problem is not None:
            problems.append(_warning(f"entry point {name}" if name else "entry points", problem))
        sources += [Source("entry-point", 1, root, f"entry point {name}") for root in roots]
    rank = 2
    for part in environ.get(ENVIRONMENT_VARIABLE, "").split(os.pathsep):
        if not part.strip():
            continue
        root = Path(os.path.expanduser(part.strip()))
        if os.path.exists(root):
            sources.append(Source("environment", rank, root, ENVIRONMENT_VARIABLE))
            rank += 1
        else:
            problems.append(_warning(ENVIRONMENT_VARIABLE, f"{part.strip()!r} does not exist"))
    for item in extra:
        root = Path(os.path.expanduser(item))
        if not os.path.exists(root):
            raise AdapterNotFoundError(f"no such file or folder: {root}")
        sources.append(Source("argument", rank, root, "argument"))
        rank += 1
    return sources, problems


def yaml_files(root: Path) -> list[Path]:
    """The adapter files of a folder and its subfolders, in a fixed order.

    Hidden folders and files are left out, and so are the folders of probes and the file of the
    defaults; links to folders are not followed. Of another file it is told by its place alone
    whether it is an adapter.
    """
    return [path for path in _files(root) if kind_of(path) == "adapter"]


def files_beside(root: Path) -> list[Path]:
    """The files of probes and of the defaults where :func:`yaml_files` finds adapters."""
    return [path for path in _files(root, PROBES) if kind_of(path) != "adapter"]


def kind_of(path: Path) -> Literal["adapter", "defaults", "probe"]:
    """What a file is for, told by its name and its folder."""
    if path.parent.name == PROBES:
        return "probe"
    return "defaults" if path.name == DEFAULTS else "adapter"


def _files(root: Path, also: str | None = None) -> Iterator[Path]:
    if not os.path.isdir(root):
        yield root
        return
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith((".", "__")) and (name != PROBES or name == also)
        )
        for name in sorted(files):
            if name.endswith(SUFFIXES) and not name.startswith("."):
                yield Path(folder, name)


def display_path(path: Path) -> str:
    """A path as a person at the prompt would write it: relative below the current folder."""
    try:
        return str(path.relative_to(Path.cwd())) if path.is_absolute() else str(path)
    except (ValueError, OSError):
        return str(path)


def _warning(name: str, message: str) -> Diagnostic:
    return finding("search-path", message, (name,))
