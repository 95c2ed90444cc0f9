"""Attribute paths from the pipeline or the transformer, followed with helpful errors."""

from __future__ import annotations

from typing import Any, Final

from cachedit_yaml.errors import CompileError
from cachedit_yaml.yaml.diagnostics import nearest

#: Returned by :func:`follow` where the path ends early.
MISSING: Final = object()
#: Of an index; no list of modules is longer.
_DIGITS: Final = 6


def follow(root: Any, path: str) -> Any:
    """Follow a dotted attribute path; digits index into a sequence.

    Args:
        root: where the path starts.
        path: dotted attributes, none of which begins with an underscore.

    Returns:
        The object at the end, or :data:`MISSING`.

    Raises:
        CompileError: a property on the way raised an error of another kind.
    """
    current = root
    for part in path.split("."):
        if part.startswith("_"):
            return MISSING
        try:
            found = _step(current, part)
            _ = found.__class__  # everybody asks for it, and it may be a property too
        except AttributeError:
            return MISSING
        except Exception as error:  # a property runs code of the pipeline's
            raise CompileError(
                f"{path}: {part!r} of a {type(current).__name__} cannot be read: {said(error)}"
            ) from error
        current = found
        if current is MISSING:
            break
    return current


def said(error: Exception) -> str:
    """An error of others' code, with its kind; it may not even be able to say what it is."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def _step(current: Any, part: str) -> Any:
    """What is called like this in an object."""
    if part.isdecimal() and hasattr(type(current), "__getitem__"):
        try:
            return current[int(part)] if len(part) <= _DIGITS else MISSING
        except (IndexError, KeyError, TypeError):
            return MISSING
    # FrozenDict configs answer to keys as well as to attributes, some of them only to keys.
    if isinstance(current, dict) and part in current:
        return current[part]
    return getattr(current, part)


def explain_missing(root: Any, path: str, root_name: str) -> str:
    """Say in one sentence where a path broke off and which names come nearest."""
    current, walked = root, root_name
    for part in path.split("."):
        following = follow(current, part)
        if following is MISSING:
            near = nearest(part, child_names(current), limit=3)
            hint = f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
            if not near and (lists := block_list_names(current)):
                hint = f"; it has the block lists {', '.join(lists)}"
            return f"{walked} ({type(current).__name__}) has no attribute {part!r}{hint}"
        current, walked = following, f"{walked}.{part}"
    return f"{walked} exists"


def child_names(module: Any) -> list[str]:
    """Names of the public children of a module, pipeline or any other object."""
    import torch

    if isinstance(module, torch.nn.Module):
        return [name for name, _ in module.named_children()]
    try:
        components = getattr(module, "components", None)
    except Exception:  # a property that gives no hint
        components = None
    if isinstance(components, dict):
        return list(components)
    return (
        [name for name in vars(module) if not name.startswith("_")]
        if hasattr(module, "__dict__")
        else []
    )


def block_list_names(module: Any) -> list[str]:
    """Names of the non-empty ``ModuleList`` children of a module."""
    import torch

    if not isinstance(module, torch.nn.Module):
        return []
    return [
        name
        for name, child in module.named_children()
        if isinstance(child, torch.nn.ModuleList) and len(child) > 0
    ]


def condition_holds(condition: str, *, pipeline: Any, transformer: Any) -> bool | None:
    """Evaluate an attribute path, optionally negated.

    Returns:
        The truth of the attribute, or None where the path does not exist.

    Raises:
        CompileError: it cannot be read, or is neither true nor false.
    """
    negated = condition.startswith("not ")
    path = condition[4:] if negated else condition
    root_name, _, rest = path.partition(".")
    value = follow(pipeline if root_name == "pipeline" else transformer, rest)
    if value is MISSING:
        return None
    try:
        holds = bool(value)
    except Exception as error:  # a tensor, say
        raise CompileError(
            f"{condition!r} is a {type(value).__name__}, neither true nor false: {said(error)}"
        ) from error
    return holds != negated
