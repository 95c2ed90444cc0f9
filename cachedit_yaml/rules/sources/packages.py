"""The packages whose sources can be read: their modules, and their classes by name."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Sequence
from pathlib import Path

from cachedit_yaml.rules.sources.code import Class, Known, Module, Outside
from cachedit_yaml.rules.sources.files import definitions, find_package, python_files, text_of


class Code:
    """The packages whose sources can be read.

    Args:
        folders: where packages are looked for first, before those that are installed.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self.folders = tuple(folders)
        self._packages: dict[str, Path | None] = {}
        self._modules: dict[str, Module | None] = {}
        self._classes: dict[int, Class] = {}

    def class_of(self, module: Module, node: ast.ClassDef) -> Class:
        """The class of a definition, which is one object."""
        return self._classes.setdefault(id(node), Class(module, node))

    def module(self, name: str) -> Module | None:
        """The module of a name; None where it cannot be read."""
        if name not in self._modules:
            self._modules[name] = self._open(name)
        return self._modules[name]

    def find(self, source: str, name: str, way: int = 0) -> Known | None:
        """What a name of a module stands for."""
        module = self.module(source)
        if module is None:
            return Outside(f"{source}.{name}")
        return module.find(name, way) or self.module(f"{source}.{name}")

    def classes(self, package: str, sources: Sequence[str], name: str) -> list[Class]:
        """The classes of a name that a package defines, or else imports, in some folders."""
        folder = self.folder(package)
        if folder is None:
            return []
        roots = tuple(folder / source for source in sources)
        word = re.compile(rb"\b%b\b" % re.escape(name).encode())
        for paths in (
            definitions(roots).get(name, ()),
            (path for root in roots for path in python_files(root) if word.search(text_of(path))),
        ):
            found: dict[int, Class] = {}
            for path in paths:
                module = self.module(_dotted(package, folder, path))
                item = module.find(name) if module is not None else None
                if isinstance(item, Class) and item.name == name:
                    found[id(item.node)] = item
            if found:
                return list(found.values())
        return []

    def _open(self, name: str) -> Module | None:
        package, *below = name.split(".")
        folder = self.folder(package)
        if folder is None or not all(part.isidentifier() for part in below):
            return None
        for path in (
            folder.joinpath(*below, "__init__.py"),
            folder.joinpath(*below).with_suffix(".py"),
        ):
            if os.path.isfile(path):
                return Module(name, path, self)
        return None

    def folder(self, name: str) -> Path | None:
        """The folder of a package; None where it is neither given nor installed."""
        if name not in self._packages:
            self._packages[name] = find_package(name, self.folders)
        return self._packages[name]


def _dotted(package: str, folder: Path, path: Path) -> str:
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join([package, *(parts[:-1] if parts and parts[-1] == "__init__" else parts)])
