"""What the statements of a function and of a class bind."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from cachedit_yaml.rules.sources.code import Class, Definition

if TYPE_CHECKING:
    from typing import TypeGuard

#: Bases that bring no attribute that anybody names.
_PLAIN: Final = ("torch.nn.Module", "torch.nn.modules.", "abc.", "typing.", "typing_extensions.")


def is_whole(cls: Class) -> bool:
    """Whether all of a class can be read: an attribute that nothing assigns is not there."""
    asked = cls.method("__getattr__")
    if asked is not None and not asked.module.name.startswith("diffusers."):
        return False
    plain = all(name is not None and name.startswith(_PLAIN) for name in cls.outside)
    return plain and not any(
        isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "self.__dict__.update")
        and not (len(node.args) > 1 and isinstance(node.args[1], ast.Constant))
        and ast.unparse(node.args[0] if node.args else node) in ("self", "self.__dict__")
        for item in methods(cls) for node in ast.walk(item.node)
    )  # fmt: skip


@functools.cache
def mentions(cls: Class) -> dict[str, list[tuple[Definition, ast.AST]]]:
    """The statements of its methods that set or fill an attribute of ``self``, by its name."""
    found: dict[str, list[tuple[Definition, ast.AST]]] = {}
    for item in methods(cls):
        for node in ast.walk(item.node):
            names = {target.attr for target in targets(node) if is_own(target)}
            if isinstance(node, (ast.Call, ast.Assign)):
                grown = grown_by(node)
                names |= {grown[0]} if grown else set()
            if isinstance(node, ast.Call):
                names |= {set_by(node)} - {None}  # type: ignore[arg-type]
            for name in names:
                found.setdefault(name, []).append((item, node))
    return found


def set_by(node: ast.Call) -> str | None:
    """The attribute of ``self`` that a call sets by its name."""
    function, args = node.func, node.args
    if isinstance(function, ast.Name) and function.id == "setattr" and len(args) == 3:
        mine, args = isinstance(args[0], ast.Name) and args[0].id == "self", args[1:]
    else:
        mine = is_own(function) and function.attr in ("add_module", "register_module")
    if mine and len(args) == 2 and isinstance(args[0], ast.Constant):
        return args[0].value if isinstance(args[0].value, str) else None
    return None


def grown_by(node: ast.AST) -> tuple[str, ast.expr | None] | None:
    """What a statement puts into a list of ``self``: the attribute, and what; None for anything."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
        if is_own(node.func.value) and node.func.attr in ("append", "extend", "insert"):
            return node.func.value.attr, node.args[0] if node.func.attr == "append" else None
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
        # A block in the place of another: wrapped, compiled.
        target = node.targets[0].value
        if is_own(target):
            return target.attr, node.value
    return None


def methods(cls: Class) -> Iterator[Definition]:
    """Those of a class and its bases; one that is overridden may still be called by the other."""
    for base in cls.mro:
        yield from base.methods()


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function, without those of functions inside it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            yield node
            yield from own_nodes(node)


def targets(node: ast.AST) -> list[ast.expr]:
    """What a statement assigns to, one by one."""
    if isinstance(node, ast.Assign):
        found = node.targets
    elif isinstance(node, (ast.AnnAssign, ast.AugAssign, ast.For, ast.NamedExpr)):
        found = [node.target]
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        found = [node.optional_vars]
    else:
        return []
    flat: list[ast.expr] = []
    for target in found:
        flat += target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
    return flat


def is_own(node: ast.expr) -> TypeGuard[ast.Attribute]:
    """Whether an expression is an attribute of ``self``."""
    own = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    return own and node.value.id == "self"  # type: ignore[attr-defined]


def bindings(function: ast.AST, name: str) -> list[ast.expr | None]:
    """The expressions that a function assigns to a local name; None for what is none."""
    found: list[ast.expr | None] = []
    for node in ast.walk(function):
        for target in targets(node):
            if isinstance(target, ast.Name) and target.id == name:
                plain = isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr))
                whole = not isinstance(node, ast.Assign) or target in node.targets
                found.append(getattr(node, "value", None) if plain and whole else None)
    return found


def parameters(function: ast.AST) -> set[str]:
    """The names that a function takes."""
    arguments = getattr(function, "args", None)
    return (
        {node.arg for node in ast.walk(arguments) if isinstance(node, ast.arg)}
        if arguments
        else set()
    )
