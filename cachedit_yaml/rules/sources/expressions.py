"""What expressions may be, read off their source."""

from __future__ import annotations

import ast
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cachedit_yaml.rules.sources.code import Class, Definition, Module, Outside
from cachedit_yaml.rules.sources.statements import bindings, own_nodes, parameters
from cachedit_yaml.rules.sources.values import (
    ANYTHING,
    NONE,
    UNKNOWN,
    Instance,
    Items,
    Other,
    Reference,
    Value,
    Values,
    items_of,
    listed,
)

#: How deep calls are followed.
_DEEPEST: Final = 60


@dataclass(frozen=True, eq=False)
class Scope:
    """Where an expression stands: its module, the object `self`, the function, its arguments."""

    module: Module
    owner: Class | None
    function: Definition | None
    given: Mapping[str, Values] = field(default_factory=dict)


class Expressions:
    """Reads expressions.

    Args:
        makers: functions that make a block list of an argument that makes a block, with its place.
            They return the list, alone or last.
    """

    def __init__(self, makers: Mapping[str, int]) -> None:
        self._makers = makers
        self._calls: set[int] = set()
        self._depth = 0

    @abstractmethod
    def attribute(self, cls: Class, name: str) -> Values:
        """What an attribute may hold; empty where the class has none of that name."""

    def value(self, node: ast.expr, scope: Scope) -> Values:
        """What an expression may be."""
        if self._depth > _DEEPEST:
            return ANYTHING
        self._depth += 1
        try:
            return self._value(node, scope)
        finally:
            self._depth -= 1

    def _value(self, node: ast.expr, scope: Scope) -> Values:
        if isinstance(node, ast.Constant):
            return frozenset({Other(type(node.value).__name__) if node.value is not None else NONE})
        if isinstance(node, ast.IfExp):
            return self.value(node.body, scope) | self.value(node.orelse, scope)
        if isinstance(node, ast.BoolOp):
            return frozenset().union(*(self.value(item, scope) for item in node.values))
        if isinstance(node, ast.NamedExpr):
            return self.value(node.value, scope)
        if isinstance(node, (ast.List, ast.Tuple)):
            return listed(frozenset().union(*(self._item(item, scope) for item in node.elts)))
        if isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            return listed(self.value(node.elt, scope))
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mult)):
            sides = self.value(node.left, scope) | self.value(node.right, scope)
            lists = [item for item in sides if isinstance(item, Items)]
            return listed(frozenset().union(*(x.values for x in lists))) if lists else ANYTHING
        if isinstance(node, ast.Name):
            return self._named(node, scope)
        if isinstance(node, ast.Attribute):
            return self._of_attribute(node, scope)
        if isinstance(node, ast.Call):
            return self._called(node, scope)
        if isinstance(node, (ast.Dict, ast.JoinedStr, ast.Compare, ast.DictComp)):
            return frozenset({Other(type(node).__name__)})
        return ANYTHING

    def _item(self, node: ast.expr, scope: Scope) -> Values:
        if not isinstance(node, ast.Starred):
            return self.value(node, scope)
        return items_of(self.value(node.value, scope))

    def _named(self, node: ast.Name, scope: Scope) -> Values:
        if node.id in scope.given:
            return scope.given[node.id]
        if scope.function is not None:
            if node.id == "self" and scope.owner is not None:
                return frozenset({Instance(scope.owner)})
            local = bindings(scope.function.node, node.id)
            if local:
                found: set[Value] = set()
                for item in local:
                    found |= ANYTHING if item is None else self.value(item, scope)
                return frozenset(found) | self._grown(node.id, scope, frozenset(found))
            if node.id in parameters(scope.function.node):
                return ANYTHING
        known = scope.module.find(node.id)
        return frozenset({Reference(known)}) if isinstance(known, (Class, Definition)) else ANYTHING

    def _grown(self, name: str, scope: Scope, values: Values) -> Values:
        """A local list with what is appended to it."""
        assert scope.function is not None
        added: set[Value] = set()
        for node in ast.walk(scope.function.node):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == f"{name}.append":
                added |= self.value(node.args[0], scope) if node.args else ANYTHING
        lists = [item for item in values if isinstance(item, Items)]
        return frozenset(Items(item.values | added, item.modules) for item in lists)

    def _of_attribute(self, node: ast.Attribute, scope: Scope) -> Values:
        known = scope.module.resolve(node)
        if isinstance(known, (Class, Definition)):
            return frozenset({Reference(known)})
        if isinstance(known, (Outside, Module)):
            return ANYTHING
        return self.step(self.value(node.value, scope), node.attr) or ANYTHING

    def _called(self, node: ast.Call, scope: Scope) -> Values:
        made = self._made_by_maker(node, scope)
        if made is not None:
            return made
        outside = scope.module.resolve(node.func)
        if isinstance(outside, Outside):
            return self._of_outside(outside.name, node, scope)
        if isinstance(node.func, ast.Name) and outside is None:
            if node.func.id in ("list", "tuple") and len(node.args) == 1:
                return listed(items_of(self.value(node.args[0], scope)))
            if node.func.id in ("int", "float", "str", "len", "bool", "dict", "set", "range"):
                return frozenset({Other(node.func.id)})
        if isinstance(node.func, ast.Attribute) and node.func.attr.startswith("from_"):
            # `Transformer.from_config(...)`
            made_of = self.value(node.func.value, scope)
            classes = [x.to for x in made_of if isinstance(x, Reference)]
            if classes and all(isinstance(x, Class) and x.method("forward") for x in classes):
                return frozenset(Instance(x) for x in classes if isinstance(x, Class))
            return ANYTHING
        found: set[Value] = set()
        for item in self.value(node.func, scope):
            if not isinstance(item, Reference):
                found.add(UNKNOWN)
            elif isinstance(item.to, Class):
                found |= self._made(item.to, node, scope)
            else:
                found |= self._returned(item.to, scope, self._arguments(item.to, node, scope))
        return frozenset(found)

    def _of_outside(self, name: str, node: ast.Call, scope: Scope) -> Values:
        """What a call of a class or function makes that cannot be read."""
        package, _, last = name.rpartition(".")
        if name == "functools.partial" and node.args:
            return self.value(node.args[0], scope)
        if not name.startswith("torch."):
            return ANYTHING
        if last == "ModuleList":
            values = items_of(self.value(node.args[0], scope)) if node.args else frozenset()
            return frozenset({Items(values, True)})
        if package in ("torch.nn", "torch.nn.modules") and last[:1].isupper():
            return frozenset({Other(last)})
        return ANYTHING

    def _made(self, cls: Class, node: ast.Call, scope: Scope) -> Values:
        if any(name and name.endswith("nn.ModuleList") for name in cls.outside):
            values = items_of(self.value(node.args[0], scope)) if node.args else ANYTHING
            return frozenset({Items(values, True)})
        if cls.method("__new__") is not None:
            return ANYTHING
        return frozenset({Instance(cls)})

    def _made_by_maker(self, node: ast.expr, scope: Scope) -> Values | None:
        """The block list that one of the engine's functions makes; None for any other call."""
        if not isinstance(node, ast.Call):
            return None
        place = self._makers.get(ast.unparse(node.func).rpartition(".")[2])
        if place is None or place >= len(node.args):
            return None
        made = node.args[place]
        values = self.value(made.body, scope) if isinstance(made, ast.Lambda) else ANYTHING
        return frozenset({Items(values, True)})

    def _arguments(self, item: Definition, node: ast.Call, scope: Scope) -> dict[str, Values]:
        """What a call gives, by the names of the function; what it does not say is unknown."""
        names = [x.arg for x in (*item.node.args.posonlyargs, *item.node.args.args)]
        if item.owner is not None and names:
            names = names[1:]
        given = dict.fromkeys([*names, *(x.arg for x in item.node.args.kwonlyargs)], ANYTHING)
        if any(isinstance(x, ast.Starred) for x in node.args):
            return given
        given |= {name: self.value(x, scope) for name, x in zip(names, node.args, strict=False)}
        given |= {x.arg: self.value(x.value, scope) for x in node.keywords if x.arg in given}
        return given

    def _returned(self, item: Definition, scope: Scope, given: Mapping[str, Values]) -> Values:
        """What a function may return."""
        key = id(item.node)
        if key in self._calls:
            return ANYTHING
        owner = scope.owner if item.owner is not None else None
        inside = Scope(item.module, owner, item, given)
        returns = [node for node in own_nodes(item.node) if isinstance(node, ast.Return)]
        found: set[Value] = set()
        self._calls.add(key)
        try:
            for node in returns:
                found |= self.value(node.value, inside) if node.value is not None else {NONE}
        finally:
            self._calls.discard(key)
        return frozenset(found) or ANYTHING

    def step(self, values: Values, part: str) -> Values:
        """What an attribute of what may be these values may be."""
        found: set[Value] = set()
        for value in values:
            if isinstance(value, Instance):
                found |= self.attribute(value.cls, part)
            elif isinstance(value, Items) and part.isdecimal():
                found |= value.values
            elif value != NONE:
                found.add(UNKNOWN)
        return frozenset(found)
