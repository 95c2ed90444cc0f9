"""What a block's forward returns, read off its source, against what its pattern says.

Only a contradiction counts: every `return` names the hidden states and the encoder hidden states,
and none of them does so in the form of the pattern. Nothing is executed.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable
from typing import Any

import torch

from cachedit_yaml.compiler.signature import PATTERNS, Binding, Pattern
from cachedit_yaml.compiler.source import Function, source_of


def contradiction(
    block: torch.nn.Module, pattern: Pattern, binding: Binding, where: str
) -> str | None:
    """Say in one sentence how a block's `return` contradicts its pattern, or None."""
    cls: Any = type(block)
    return contradicts(returned_names(cls), pattern, binding, where)


def contradicts(
    returned_by: Iterable[tuple[str, ...]], pattern: Pattern, binding: Binding, where: str
) -> str | None:
    """The same, by the names in each `return` of the block's forward."""
    hidden = binding.hidden.name
    encoder = binding.encoder.name if binding.encoder else "encoder_hidden_states"
    forms: list[tuple[bool, bool]] = []
    returned = ""
    for names in returned_by:
        if names == (hidden,):
            forms.append((False, True))
        elif set(names) == {hidden, encoder} and len(names) == 2:
            forms.append((True, names[0] == hidden))
        else:
            return None  # Something else, which may be anything.
        returned = ", ".join(names)
    wanted = (pattern.returns_encoder, pattern.hidden_first)
    if not forms or wanted in forms:
        return None
    for other in PATTERNS.values():
        form = (other.returns_encoder, other.hidden_first)
        if other.takes_encoder == pattern.takes_encoder and form == forms[-1]:
            advice = f"; that is {other.name}"
            break
    else:
        advice = ""
    return f"{where}: forward returns ({returned}), which is not {pattern.name}{advice}"


@functools.cache
def returned_names(cls: Any) -> tuple[tuple[str, ...], ...]:
    """The names in each `return` of a class's forward; an empty one for any other expression."""
    function = source_of(cls.forward)
    return () if function is None else names_returned(function)


def names_returned(function: Function) -> tuple[tuple[str, ...], ...]:
    """The same, of the definition of a forward."""
    found = []
    for node in ast.walk(function):
        if isinstance(node, (ast.Lambda, ast.FunctionDef)) and node is not function:
            return ()
        if isinstance(node, ast.Return) and node.value is not None:
            value = node.value
            parts = value.elts if isinstance(value, (ast.Tuple, ast.List)) else [value]
            names = tuple(part.id for part in parts if isinstance(part, ast.Name))
            found.append(names if len(names) == len(parts) else ())
    return tuple(found)
