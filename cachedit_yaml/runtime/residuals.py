"""What is stored of the tensors that run through blocks: whether it fits, and is a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch


def signature_of(*tensors: torch.Tensor | None) -> tuple[Any, ...]:
    """What must agree between stored residuals and the tensors that they are added to."""
    return tuple(
        (tensor.shape, tensor.dtype, tensor.device) if isinstance(tensor, torch.Tensor) else None
        for tensor in tensors
    )


def taint(compared: torch.Tensor | None, stored: list[torch.Tensor]) -> bool:
    """Make a tensor that is read later anyway no number where one of others is none.

    One of its elements gets 0 times their sums. Those of the CPU, where reading waits for nothing,
    are looked at where there is no such tensor.

    Args:
        compared: the tensor; None where nothing is read.
        stored: the others, one or two.

    Returns:
        Whether all that were looked at hold numbers only.
    """
    device = None if compared is None else compared.device
    read = [tensor.sum(dtype=torch.float32) for tensor in stored if tensor.device == device]
    if read and compared is not None:
        compared[(0,) * compared.ndim].addcmul_(read[0], read[-1], value=0)
    return all(
        math.isfinite(float(tensor.detach().sum(dtype=torch.float32).numpy()))
        for tensor in stored
        if tensor.device != device and tensor.device.type == "cpu"
    )


def taint_rows(compared: torch.Tensor, stored: Sequence[torch.Tensor], rows: Any) -> None:
    """Make rows of a tensor that is read later no numbers where those of others are none.

    Args:
        compared: the tensor ``[b x ...]``.
        stored: the others; those with as many rows tell by row, any other one for all rows.
        rows: which rows of `compared` theirs are, ``[r]``; None for all.
    """
    first = compared
    while first.ndim > 1:
        first = first[:, 0]
    count = len(first) if rows is None else len(rows)
    for tensor in stored:
        if tensor.ndim and tensor.shape[0] == count:
            sums = tensor.flatten(1).sum(1, dtype=torch.float32)
        else:
            sums = tensor.sum(dtype=torch.float32).expand(count)
        nothing = (sums * 0).to(first)
        if rows is None:
            first.add_(nothing)
        else:
            first.index_add_(0, rows.to(first.device), nothing)
