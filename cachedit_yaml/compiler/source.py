"""The source of a function as a tree, to read off it what it does without running it."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

#: A definition of a function or of a method.
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def source_of(function: Callable[..., Any]) -> ast.FunctionDef | None:
    """The definition of a function, or None where its source cannot be read."""
    try:
        source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
        tree = ast.parse(source)
    except (OSError, TypeError, SyntaxError):
        return None
    return next((node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)), None)


def parameters_in(function: Function) -> dict[str, inspect.Parameter]:
    """The parameters of the definition of a method, without the first."""
    return dict(list(_parameters(function))[1:])


def _parameters(function: Function) -> Iterator[tuple[str, inspect.Parameter]]:
    given, kinds = function.args, inspect.Parameter
    for items, kind in (
        (given.posonlyargs, kinds.POSITIONAL_ONLY),
        (given.args, kinds.POSITIONAL_OR_KEYWORD),
        ([given.vararg] if given.vararg else [], kinds.VAR_POSITIONAL),
        (given.kwonlyargs, kinds.KEYWORD_ONLY),
        ([given.kwarg] if given.kwarg else [], kinds.VAR_KEYWORD),
    ):
        for item in items:
            yield item.arg, inspect.Parameter(item.arg, kind)
