"""The Muon optimizer in float32: momentum steps made orthogonal, for few and costly CPU steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch


def orthogonalise(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Bring the singular values of a stack of matrices near 1 by Newton-Schulz iterations."""
    x: torch.Tensor
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for weights of two or more dimensions; the first one counts as the matrix's rows.

    A step's root mean square is 0.2 times the rate, so that rates compare with those of AdamW.
    """

    def __init__(
        self, params: Iterable[torch.nn.Parameter], lr: float, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": 0.95, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Make one step from the gradients."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
            for param in group["params"]:
                if param.grad is not None:
                    by_shape[param.shape].append(param)
            for shape, params in by_shape.items():
                updates = []
                for param in params:
                    grad = param.grad
                    assert grad is not None
                    state = self.state[param]
                    if not state:
                        state["mean"] = torch.zeros_like(param)
                    state["mean"].lerp_(grad, 1 - group["momentum"])
                    updates.append(grad.lerp(state["mean"], group["momentum"]).flatten(1))
                stack = orthogonalise(torch.stack(updates))
                scale = 0.2 * max(stack.shape[-2:]) ** 0.5 * group["lr"]
                for param, update in zip(params, stack, strict=True):
                    param.mul_(1 - group["lr"] * group["weight_decay"])
                    param.sub_(update.reshape(shape), alpha=scale)


def make_optimizers(
    model: torch.nn.Module, weight_decay: float = 0.0
) -> tuple[list[torch.optim.Optimizer], list[torch.nn.Parameter]]:
    """Give Muon the weights of hidden layers and AdamW the rest; also returns all weights."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, param in model.named_parameters():
        edge = any(part in name for part in ("emb", "proj_out", "conv_in"))
        edge = edge and "single" not in name
        edge = edge or ("norm" in name and "linear" in name)
        edge = edge or name.endswith("coder.conv_out.weight")
        (others if param.ndim < 2 or edge else matrices).append(param)
    adam = torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.98), weight_decay=0.0)
    return [Muon(matrices, lr=0.0, weight_decay=weight_decay), adam], matrices + others
