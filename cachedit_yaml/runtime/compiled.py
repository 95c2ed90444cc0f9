"""Blocks that are compiled: what a part of a batch asks of the compiler.

A graph is made for what goes in. Where shapes are dynamic, one graph takes any number of rows, and
another a single one. Where they are static, each number would have a graph of its own, until the
compiler gives up at its limit: it then runs without a graph, or raises.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch


def is_static(function: Callable[..., Any]) -> bool:
    """Whether a block's forward is compiled for one shape at a time.

    Args:
        function: what torch.compile has returned, or any other function.
    """
    said = [item._dynamic for item in _enclosed(function) if hasattr(item, "_dynamic")]
    if not said:
        return False
    config = torch._dynamo.config
    learns = config.automatic_dynamic_shapes or not config.assume_static_by_default
    return said[0] is False or (said[0] is None and not learns)


def _enclosed(function: Callable[..., Any]) -> Iterator[Any]:
    """What a function has in its closure: of torch.compile's, how it was called."""
    for cell in getattr(function, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # it is empty
            yield cell.cell_contents


def mark(tensor: torch.Tensor) -> None:
    """Another time, it may have another number of rows: a static graph is not to be made of it."""
    if tensor.shape[0] > 1:  # a single one has a graph of its own in any case
        torch._dynamo.maybe_mark_dynamic(tensor, 0)


def gave_up(error: Exception) -> bool:
    """Whether the compiler raised, and not the block: it may make no further graph."""
    return type(error).__module__.startswith("torch._dynamo")


def twin(tensor: torch.Tensor) -> torch.Tensor:
    """A copy that the compiler takes for the same: what it is a view of, offset, marks and mode."""
    with torch.inference_mode(tensor.is_inference()), torch.no_grad():
        made = _copy(tensor)
    vars(made).update(vars(tensor))
    return made


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    if type(tensor) is not torch.Tensor or tensor.layout is not torch.strided:
        return tensor.clone()
    size, stride, offset = tensor.shape, tensor.stride(), tensor.storage_offset()
    base = None if tensor.is_inference() else tensor._base
    if base is None:  # in inference mode nobody knows it
        made = tensor.clone()
        if not made.numel() or (made.stride() == stride and not offset):
            return made
        last = sum((count - 1) * by for count, by in zip(size, stride, strict=True))
        base = tensor.as_strided((offset + last + 1,), (1,), 0)
    return base.clone().as_strided(size, stride, offset)
