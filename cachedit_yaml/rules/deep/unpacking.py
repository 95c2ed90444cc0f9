"""In which order a transformer's loop unpacks what its block returns, read from the source."""

from __future__ import annotations

import ast
import functools
from typing import Any, Literal, TypeAlias

import torch

from cachedit_yaml.compiler.signature import PATTERNS, Argument, Binding, Pattern
from cachedit_yaml.compiler.source import Function, source_of

#: What a loop makes of the block's result: both, in which order, or one value.
Form: TypeAlias = Literal["hidden-encoder", "encoder-hidden", "hidden"]


def contradiction(
    model: torch.nn.Module, list_path: str, pattern: Pattern, binding: Binding
) -> str | None:
    """Say how the loop over a block list contradicts a pattern, or None.

    Only loops of which every call of the block is understood count.
    """
    cls: Any = type(model)
    function = _source(cls)
    return None if function is None else contradicts(function, list_path, pattern, binding)


def contradicts(
    function: Function, list_path: str, pattern: Pattern, binding: Binding
) -> str | None:
    """The same, of the definition of a forward."""
    forms = set(_forms(function, list_path, binding.hidden, binding.encoder))
    if len(forms) != 1:
        return None
    form = forms.pop()
    if not pattern.takes_encoder and form != "hidden":
        return None  # Nothing says which of the two the block was given.
    wanted: Form = "hidden"
    if pattern.returns_encoder:
        wanted = "hidden-encoder" if pattern.hidden_first else "encoder-hidden"
    if form == wanted:
        return None
    words = {
        "hidden-encoder": "hidden states first",
        "encoder-hidden": "encoder hidden states first",
        "hidden": "the hidden states alone",
    }
    fitting = [
        other.name for other in PATTERNS.values()
        if other.takes_encoder == pattern.takes_encoder
        and other.returns_encoder == (form != "hidden")
        and (form == "hidden" or other.hidden_first == (form == "hidden-encoder"))
    ]  # fmt: skip
    advice = f"; that is {fitting[0]}" if fitting else ""
    return f"the loop takes {words[form]} from the block, and {pattern.name} is " \
        f"{words[wanted]}{advice}"  # fmt: skip


def _forms(
    function: Function, list_path: str, hidden: Argument, encoder: Argument | None
) -> list[Form]:
    found: list[Form] = []
    for target, call in _calls(function, list_path):
        given = _given(call, hidden)
        other = _given(call, encoder) if encoder is not None else None
        if given is None:
            return []
        names = [ast.unparse(item) for item in target.elts] if isinstance(
            target, (ast.Tuple, ast.List)
        ) else [ast.unparse(target)]  # fmt: skip
        if names == [given]:
            found.append("hidden")
        elif other is not None and other != given and names == [given, other]:
            found.append("hidden-encoder")
        elif other is not None and other != given and names == [other, given]:
            found.append("encoder-hidden")
        else:
            return []
    return found


def _given(call: ast.Call, argument: Argument) -> str | None:
    """The variable that a call passes as an argument."""
    for keyword in call.keywords:
        if keyword.arg == argument.name:
            return ast.unparse(keyword.value) if isinstance(keyword.value, ast.Name) else None
    if argument.place < len(call.args) and not any(
        isinstance(item, ast.Starred) for item in call.args
    ):
        value = call.args[argument.place]
        return value.id if isinstance(value, ast.Name) else None
    return None


@functools.cache
def _source(cls: Any) -> Function | None:
    return source_of(cls.forward)


@functools.cache
def _calls(function: Function, list_path: str) -> tuple[tuple[ast.expr, ast.Call], ...]:
    """Each `target = block(...)` in the loops over a list, gradient checkpointing left out."""
    wanted = f"self.{list_path}"
    found: list[tuple[ast.expr, ast.Call]] = []
    for loop in ast.walk(function):
        if not isinstance(loop, ast.For) or not any(
            isinstance(item, ast.Attribute) and ast.unparse(item) == wanted
            for item in ast.walk(loop.iter)
        ):
            continue
        blocks = {item.id for item in ast.walk(loop.target) if isinstance(item, ast.Name)}
        for node in ast.walk(loop):
            if (
                isinstance(node, ast.Assign)
                and len(node.targets) == 1
                and isinstance(node.value, ast.Call)
                and isinstance(node.value.func, ast.Name)
                and node.value.func.id in blocks
            ):
                found.append((node.targets[0], node.value))
    return tuple(found)
