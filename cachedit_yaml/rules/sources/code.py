"""Modules and classes of packages as trees, and what the names in them stand for.

A name is followed through imports, also into other packages (``import torch`` imports nothing
here), until its definition is found; what is defined nowhere that can be read stays a dotted name.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from cachedit_yaml.compiler.source import Function
from cachedit_yaml.rules.sources.files import python_files, text_of

if TYPE_CHECKING:
    from cachedit_yaml.rules.sources.packages import Code

#: How often a name may be handed on by imports and aliases.
_LONGEST_WAY: Final = 12


@dataclass(frozen=True, eq=False)
class Outside:
    """A name that is defined nowhere that can be read.

    Attributes:
        name: as it is imported: ``torch.nn.Linear``.
    """

    name: str


class Module:
    """One file.

    Attributes:
        name: as it is imported.
        path: the file.
    """

    def __init__(self, name: str, path: Path, code: Code) -> None:
        self.name = name
        self.path = path
        self.code = code

    @functools.cached_property
    def tree(self) -> ast.Module:
        """What it says; empty where it cannot be read."""
        try:
            return ast.parse(self.path.read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError):
            return ast.Module(body=[], type_ignores=[])

    @functools.cached_property
    def _defined(self) -> dict[str, ast.ClassDef | Function | ast.expr]:
        """What it defines at its top, in whatever branch."""
        found: dict[str, ast.ClassDef | Function | ast.expr] = {}
        for node in _at_the_top(self.tree.body):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                found.setdefault(node.name, node)
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        found.setdefault(target.id, node.value)
        return found

    @functools.cached_property
    def _imported(self) -> dict[str, tuple[str, str | None]]:
        """The names that imports bind, anywhere: the module, and what of it (None for itself)."""
        found: dict[str, tuple[str, str | None]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for item in node.names:
                    name = item.name if item.asname else item.name.partition(".")[0]
                    found.setdefault(item.asname or name, (name, None))
            elif isinstance(node, ast.ImportFrom):
                for item in node.names:
                    found.setdefault(item.asname or item.name, (self._source(node), item.name))
        return found

    @functools.cached_property
    def _stars(self) -> list[str]:
        return [
            self._source(node)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom) and any(item.name == "*" for item in node.names)
        ]

    def _source(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        if self.path.name == "__init__.py":
            parts.append("")
        return ".".join([*parts[: -node.level], *([node.module] if node.module else [])])

    def find(self, name: str, way: int = 0) -> Known | None:
        """What a name at the top of this module stands for; None if it is bound nowhere."""
        if way > _LONGEST_WAY:
            return None
        defined = self._defined.get(name)
        if isinstance(defined, ast.ClassDef):
            return self.code.class_of(self, defined)
        if isinstance(defined, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return Definition(self, None, defined)
        if name in self._imported:
            source, member = self._imported[name]
            if member is None:
                return self.code.module(source) or Outside(source)
            return self.code.find(source, member, way + 1)
        if isinstance(defined, (ast.Name, ast.Attribute)):
            return self.resolve(defined, way + 1)
        for source in self._stars:
            found = self.code.find(source, name, way + 1)
            if found is not None and not isinstance(found, Outside):
                return found
        return None

    def resolve(self, node: ast.expr, way: int = 0) -> Known | None:
        """What ``a`` or ``a.b.c`` stands for at the top of this module."""
        if isinstance(node, ast.Name):
            return self.find(node.id, way)
        if isinstance(node, ast.Attribute):
            base = self.resolve(node.value, way)
            if isinstance(base, Outside):
                return Outside(f"{base.name}.{node.attr}")
            if isinstance(base, Module):
                return self.code.find(base.name, node.attr, way + 1)
        return None


@dataclass(frozen=True, eq=False)
class Definition:
    """A function, or a method of a class.

    Attributes:
        module: where it stands.
        owner: the class in whose body it stands.
        node: itself.
    """

    module: Module
    owner: Class | None
    node: Function


@dataclass(frozen=True, eq=False)
class Class:
    """One class.

    Attributes:
        module: where it stands.
        node: itself.
    """

    module: Module
    node: ast.ClassDef

    @property
    def name(self) -> str:
        """As it is called."""
        return self.node.name

    @functools.cached_property
    def bases(self) -> tuple[Class | Outside | None, ...]:
        """What it derives from; None for what cannot be told."""
        found: list[Class | Outside | None] = []
        for node in self.node.bases:
            base = self.module.resolve(node.value if isinstance(node, ast.Subscript) else node)
            known = isinstance(base, (Class, Outside)) and base is not self
            found.append(base if known else None)  # type: ignore[arg-type]
        return tuple(found)

    @functools.cached_property
    def mro(self) -> tuple[Class, ...]:
        """Itself and the bases that can be read, each before those that it derives from."""
        found: list[Class] = []
        todo: list[Class] = [self]
        while todo:
            cls = todo.pop(0)
            if cls not in found:
                found.append(cls)
                todo = [base for base in cls.bases if isinstance(base, Class)] + todo
        return tuple(found)

    @functools.cached_property
    def outside(self) -> tuple[str | None, ...]:
        """The bases that cannot be read, None for those that have no name."""
        return tuple(
            base.name if isinstance(base, Outside) else None
            for cls in self.mro
            for base in cls.bases
            if not isinstance(base, Class)
        )

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Its name and those of its bases."""
        others = [name.rpartition(".")[2] for name in self.outside if name]
        return (*(cls.name for cls in self.mro), *others)

    def methods(self) -> Iterator[Definition]:
        """Those of its own body, in whatever branch."""
        for node in _at_the_top(self.node.body):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield Definition(self.module, self, node)

    def method(self, name: str) -> Definition | None:
        """The method of a name, its own or inherited."""
        return next(
            (item for cls in self.mro for item in cls.methods() if item.node.name == name), None
        )


#: What a name can stand for.
Known: TypeAlias = Class | Definition | Module | Outside


def _at_the_top(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body and of its branches."""
    for node in body:
        yield node
        for name in ("body", "orelse", "handlers", "finalbody"):
            if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                inner = getattr(node, name, None) or []
                yield from _at_the_top([
                    each for item in inner
                    for each in (item.body if isinstance(item, ast.ExceptHandler) else [item])
                ])  # fmt: skip


def assigned_beside(cls: Class, name: str) -> bool:
    """Whether a file beside a class assigns an attribute of this name to anything but ``self``."""
    word = re.escape(name).encode()
    pattern = re.compile(
        rb"(?<!\bself)\.%b\s*(?::[^=\n]+)?=(?!=)|setattr\([^,\n]+,\s*[\"']%b[\"']" % (word, word)
    )
    folders = {item.module.path.parent for item in cls.mro}
    return any(
        word in text_of(path) and pattern.search(text_of(path))
        for folder in folders for path in python_files(folder) if path.parent == folder
    )  # fmt: skip
