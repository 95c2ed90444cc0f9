"""Names of the classes of installed packages, read off their sources without importing them.

An index file of each package (where it lists what it exports) answers nearly every question in a
millisecond. Only a name that is not there and looks like a misspelling of one that is makes the
sources be read; what was read is kept in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from cachedit_yaml.engines import engines
from cachedit_yaml.rules.sources.files import find_package, source_folders

_QUOTED: Final = re.compile(rb"[\"']([A-Z]\w+)[\"']")
_CLASS: Final = re.compile(rb"^class (\w+)", re.MULTILINE)
_DIGITS: Final = re.compile(r"[0-9]")
#: What so many names end with that it says nothing about whether two are alike.
_SUFFIX: Final = re.compile(
    r"(?:Img2Img|Inpaint)?(?:Pipeline|Transformer(?:[123]D)?Model|Model|TransformerBlock|Block)$"
)
_CACHE_VERSION: Final = 1


@dataclass(frozen=True)
class Package:
    """An installed package that has pipelines or transformers.

    Attributes:
        name: the package as it is imported.
        engine: the engine that it is.
        folder: where its sources are.
        index: the file that lists what it exports.
        sources: folders whose files define the classes.
    """

    name: str
    engine: str
    folder: Path
    index: str
    sources: tuple[str, ...]

    @functools.cached_property
    def exported(self) -> frozenset[str]:
        """The names in the index file."""
        try:
            content = (self.folder / self.index).read_bytes()
        except OSError:
            return frozenset()
        return frozenset(name.decode() for name in _QUOTED.findall(content))

    @functools.cached_property
    def defined(self) -> frozenset[str]:
        """Every class that the sources define."""
        import json

        files = sorted(self._files())
        stamp = _stamp(files)
        cache = _cache_file(self.folder)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            kept = json.loads(cache.read_text(encoding="utf-8"))
            if kept["stamp"] == stamp:
                return frozenset(kept["names"])
        found: set[str] = set()
        for path in files:
            with contextlib.suppress(OSError):
                found.update(name.decode() for name in _CLASS.findall(path.read_bytes()))
        _keep(cache, {"stamp": stamp, "names": sorted(found)})
        return frozenset(found)

    def _files(self) -> Iterator[Path]:
        for source in self.sources:
            for folder, folders, files in os.walk(self.folder / source):
                folders[:] = [name for name in folders if name != "__pycache__"]
                yield from (Path(folder, name) for name in files if name.endswith(".py"))


def installed() -> tuple[Package, ...]:
    """The packages that are installed, or lie in a folder of sources; none of them is imported."""
    return _installed(source_folders())


@functools.cache
def _installed(folders: tuple[Path, ...]) -> tuple[Package, ...]:
    found = []
    for engine in engines():
        if not engine.class_index:
            continue
        name, index = engine.packages[0], engine.class_index
        folder = find_package(name, folders)
        if folder is not None and os.path.isfile(folder / index):
            found.append(Package(name, engine.name, folder, index, engine.class_sources))
    return tuple(found)


def misspelled(name: str, packages: Iterable[Package], exported: bool = True) -> str | None:
    """The class that a name is a misspelling of; None if it exists or is like no other.

    A name that differs only in its digits is another class (Flux, Flux2), not a misspelling.

    Args:
        name: the name.
        packages: where to look.
        exported: whether packages export such classes, as they do pipelines and transformers.
    """
    packages = tuple(packages)
    if any(name in package.exported for package in packages):
        return None
    near = _nearest(name, [package.exported for package in packages])
    if near is None and not exported:
        near = _nearest(name, [package.defined for package in packages])
    if near is None or any(name in package.defined for package in packages):
        return None
    return near


class _Shape(NamedTuple):
    """What of a name can be compared quickly."""

    name: str
    folded: str
    letters: str
    #: How many letters tell it from others of its kind.
    core: int
    #: Whether it has an ending that many names have.
    suffixed: bool
    #: One bit for each letter that occurs.
    bits: int


@functools.cache
def _shape(name: str) -> _Shape:
    bits = 0
    for char in name:
        bits |= 1 << (ord(char) & 63)
    core = len(_SUFFIX.sub("", name))
    folded = name.casefold().replace("_", "")
    return _Shape(name, folded, _DIGITS.sub("", name), core, core < len(name), bits)


@functools.cache
def _shapes(names: frozenset[str]) -> tuple[_Shape, ...]:
    return tuple(_shape(name) for name in names)


def _nearest(name: str, groups: Iterable[frozenset[str]]) -> str | None:
    best: tuple[int, str] | None = None
    mine = _shape(name)
    bits, low, high = mine.bits, len(name) - 2, len(name) + 2
    for other in (
        shape
        for group in groups
        for shape in _shapes(group)
        # Two edits change at most four of the letters that occur.
        if (shape.bits ^ bits).bit_count() <= 4 and low <= len(shape.name) <= high
    ):
        if other.name == name:
            continue
        if other.folded == mine.folded:
            return other.name
        core = min(mine.core, other.core)
        limit = 0 if core < 4 else 1 if core < 8 else 2
        if mine.suffixed != other.suffixed:
            # The mistake is in the suffix itself, so the whole name tells them apart.
            limit = max(limit, 1)
        if other.letters == mine.letters or not limit:
            continue
        distance = _distance(name, other.name, limit)
        if distance <= limit and (best is None or (distance, other.name) < best):
            best = (distance, other.name)
    return best[1] if best else None


def _distance(one: str, other: str, limit: int) -> int:
    """Edits (insert, delete, replace, swap neighbours) between two words, up to a limit."""
    # Nearly all pairs differ at both ends: strip what is equal first.
    while one and other and one[0] == other[0]:
        one, other = one[1:], other[1:]
    while one and other and one[-1] == other[-1]:
        one, other = one[:-1], other[:-1]
    if max(len(one), len(other)) > 2 * limit + 4:
        return limit + 1
    before: list[int] = []
    previous = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        current = [i]
        for j, b in enumerate(other, 1):
            cost = min(previous[j] + 1, current[-1] + 1, previous[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and b == one[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            current.append(cost)
        before, previous = previous, current
    return previous[-1]


def _stamp(files: Iterable[Path]) -> str:
    """What changes whenever one of the files does."""
    import hashlib

    digest = hashlib.sha256()
    for path in files:
        with contextlib.suppress(OSError):
            state = path.stat()
            digest.update(
                f"{path}\0{state.st_mtime_ns}\0{state.st_size}\n".encode(errors="replace")
            )
    return digest.hexdigest()


def _cache_file(folder: Path) -> Path:
    import hashlib

    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    key = hashlib.sha256(str(folder).encode(errors="replace")).hexdigest()[:16]
    return Path(base, "cachedit-yaml", f"classes-{_CACHE_VERSION}-{key}.json")


def _keep(cache: Path, data: object) -> None:
    import json
    import tempfile

    # A cache folder that cannot be written costs time, nothing else.
    with contextlib.suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=cache.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(data, stream)
        os.replace(temporary, cache)
