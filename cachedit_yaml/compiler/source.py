"""The source of a function as a tree, to read off it what it does without running it."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
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
