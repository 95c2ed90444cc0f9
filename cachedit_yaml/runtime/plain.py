"""Forwards that no cache may touch: those that become part of a graph, or that autograd records."""

from __future__ import annotations

from typing import Any, Final

import torch

#: Modes of torch's dispatcher under which no tensor is one.
_RECORDING: Final = (
    torch._C._TorchDispatchModeKey.FAKE,
    torch._C._TorchDispatchModeKey.FUNCTIONAL,
    torch._C._TorchDispatchModeKey.PROXY,
)


def is_recorded() -> bool:
    """Whether this call becomes part of a graph, or runs under a transform of torch.func.

    So it is where a mode of torch's own stands in for tensors: those of `make_fx` and fake ones.
    """
    return bool(
        torch._C._get_tracing_state() is not None
        or torch.compiler.is_exporting()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or any(torch._C._get_dispatch_mode(mode) is not None for mode in _RECORDING)
    )


def needs_gradients(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether autograd records this forward: what it records must not be stored or skipped."""
    if not torch.is_grad_enabled():
        return False
    return any(
        isinstance(item, torch.Tensor) and item.requires_grad
        for item in (*args, *kwargs.values(), *module.parameters())
    )
