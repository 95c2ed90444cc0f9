"""What is stored of the tensors that run through blocks: whether it fits, and is a number."""

from __future__ import annotations

import math
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
