"""What an attribute of an object may hold, read off every assignment to it."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from cachedit_yaml.rules.sources.code import Class, Definition, assigned_beside
from cachedit_yaml.rules.sources.expressions import Expressions, Scope
from cachedit_yaml.rules.sources.statements import (
    grown_by,
    is_own,
    is_whole,
    mentions,
    set_by,
    targets,
)
from cachedit_yaml.rules.sources.values import (
    ANYTHING,
    Instance,
    Items,
    Reference,
    Value,
    Values,
)


class Reader(Expressions):
    """Reads what attributes hold.

    Args:
        makers: as in :class:`Expressions`.
    """

    def __init__(self, makers: Mapping[str, int]) -> None:
        super().__init__(makers)
        self._found: dict[tuple[int, str], Values] = {}
        self._open: set[tuple[int, str]] = set()

    def follow(self, cls: Class, path: str) -> Values:
        """What a path of attributes leads to, from an object of a class; empty for nothing."""
        values: Values = frozenset({Instance(cls)})
        for part in path.split("."):
            values = self.step(values, part)
        return values

    def attribute(self, cls: Class, name: str) -> Values:
        """What an attribute may hold; empty where the class has none of that name."""
        key = (id(cls.node), name)
        if key in self._open:
            return frozenset()  # what it is made from is said elsewhere
        if key not in self._found:
            self._open.add(key)
            try:
                self._found[key] = self._attribute(cls, name)
            finally:
                self._open.discard(key)
        return self._found[key]

    def names(self, cls: Class) -> list[str]:
        """The attributes that its methods assign."""
        return list(mentions(cls))

    def block_lists(self, cls: Class) -> list[str]:
        """The attributes that are block lists."""
        return [
            name for name in self.names(cls)
            if any(isinstance(x, Items) and x.modules for x in self.attribute(cls, name))
        ]  # fmt: skip

    def _attribute(self, cls: Class, name: str) -> Values:
        found: set[Value] = set()
        for base in cls.mro:
            for statement in base.node.body:
                found |= self._of_body(statement, Scope(base.module, cls, None), name)
        added: set[Value] = set()
        for item, node in mentions(cls).get(name, ()):
            scope = Scope(item.module, cls, item)
            found |= self._assigned(node, scope, name)
            added |= self._appended(node, scope, name)
        if added:
            found = {
                Items(value.values | added, value.modules) if isinstance(value, Items) else value
                for value in found
            }
        if not found and (not is_whole(cls) or assigned_beside(cls, name)):
            return ANYTHING
        return frozenset(found)

    def _of_body(self, node: ast.stmt, scope: Scope, name: str) -> Values:
        """What the body of a class says: a value, a property, a method."""
        if isinstance(node, ast.Assign):
            if any(isinstance(item, ast.Name) and item.id == name for item in node.targets):
                return self.value(node.value, scope)
        elif isinstance(node, ast.AnnAssign):
            if isinstance(node.target, ast.Name) and node.target.id == name:
                return self.value(node.value, scope) if node.value is not None else ANYTHING
        elif isinstance(node, ast.FunctionDef) and node.name == name:
            item = Definition(scope.module, scope.owner, node)
            if any("property" in ast.unparse(x) for x in node.decorator_list):
                return self._returned(item, scope, {})
            return frozenset({Reference(item)})
        return frozenset()

    def _assigned(self, node: ast.AST, scope: Scope, name: str) -> Values:
        """What one statement of a method assigns to ``self.NAME``."""
        if isinstance(node, ast.Call) and set_by(node) == name:
            return self.value(node.args[-1], scope)
        own = [item for item in targets(node) if is_own(item) and item.attr == name]
        if not own:
            return frozenset()
        whole = node.targets if isinstance(node, ast.Assign) else own
        value = getattr(node, "value", None)
        if value is None or isinstance(node, ast.AugAssign):
            return ANYTHING
        if own[0] in whole:
            return self.value(value, scope)
        # `a, self.b = ...`
        last = isinstance(whole[0], ast.Tuple) and whole[0].elts[-1] is own[0]
        made = self._made_by_maker(value, scope)
        return made if last and made is not None else ANYTHING

    def _appended(self, node: ast.AST, scope: Scope, name: str) -> Values:
        """What one statement of a method adds to the list ``self.NAME``."""
        grown = grown_by(node)
        if grown is None or grown[0] != name:
            return frozenset()
        return ANYTHING if grown[1] is None else self.value(grown[1], scope)
