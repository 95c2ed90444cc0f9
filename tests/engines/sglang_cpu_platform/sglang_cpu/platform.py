"""SGLang's platform for CPUs, with every custom operator in PyTorch."""

from __future__ import annotations

from typing import Any, Final

import torch
from sglang.multimodal_gen.runtime.platforms import PlatformEnum
from sglang.multimodal_gen.runtime.platforms.cpu import CpuPlatform

KEY: Final = "plain_cpu"


class PlainCpuPlatform(CpuPlatform):
    """SGLang gives an out-of-tree platform the operators' own ``forward_native``."""

    _enum = PlatformEnum.OOT

    def is_cpu(self) -> bool:
        """Whether its tensors are on a CPU, where SGLang imports no kernels for others."""
        return True

    def get_device(self, local_rank: int) -> torch.device:
        """Every rank's device."""
        return torch.device("cpu")

    def get_dispatch_key_name(self) -> str:
        """The key of the operators below."""
        return KEY

    def init_backend(self) -> None:
        """Register what to run of the operators whose ``forward_native`` calls a kernel."""
        from sglang.multimodal_gen.runtime.layers import flux3_fused_ops, layernorm
        from sglang.multimodal_gen.runtime.layers.custom_op import CustomOp

        for cls, fn in (
            (layernorm.LayerNormScaleShift, modulated),
            (layernorm.RMSNormScaleShift, modulated),
            (layernorm.ScaleResidualLayerNormScaleShift, residual_modulated),
            (layernorm.ScaleResidualRMSNormScaleShift, residual_modulated),
        ):
            CustomOp.register_oot_forward(cls, fn=fn, platform_key=KEY)
        # A function and no operator: it imports a kernel wherever it runs.
        flux3_fused_ops._silu_and_mul = silu_and_mul


def silu_and_mul(packed: torch.Tensor) -> torch.Tensor:
    """The SwiGLU of a gate and a value that lie side by side."""
    gate, value = packed.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate) * value


def times(x: torch.Tensor, factor: torch.Tensor, plus: torch.Tensor | float = 0) -> torch.Tensor:
    """``x * factor + plus`` of ``x [b, s, d]``, where factors may be by frame ``[b, f, 1, d]``."""
    if factor.dim() != 4:
        return x * factor + plus
    return (x.unflatten(1, (factor.shape[1], -1)) * factor + plus).flatten(1, 2)


def modulated(op: Any, x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Normalize, scale and shift."""
    return times(op.norm(x), 1 + scale, shift).to(x.dtype)


def residual_modulated(
    op: Any, residual: torch.Tensor, x: torch.Tensor, gate: Any, shift: Any, scale: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add to the residual what a gate lets through; normalize, scale and shift the sum."""
    total = residual + (x * gate if isinstance(gate, int) else times(x, gate))
    return times(op.norm(total), 1 + scale, shift), total
