"""The platform: one CPU device, plain attention, plain linears."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Final

import psutil
import torch
from torch.nn import functional
from vllm.model_executor.layers import utils as vllm_layers
from vllm.platforms.cpu import CpuPlatform
from vllm_omni.platforms.interface import OmniPlatform, OmniPlatformEnum

#: vLLM stands in for Triton where there is none, so these import and then fail. The models that
#: hold them have a path of plain PyTorch for when the import fails.
_KERNELS: Final = ("vllm_omni.diffusion.models.sensenova_u1.fused_rmsnorm_rope",)


def _keep_weight(layer: torch.nn.Module, remove_weight: bool) -> None:
    """vLLM's own packs the weight for its kernels and drops it; pipelines read it."""
    layer.cpu_linear = functional.linear


def _group_norm(
    hidden: torch.Tensor,
    groups: int,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
    *,
    inner: Any = functional.group_norm,
) -> torch.Tensor:
    """Autocast has it in float32 on a GPU and leaves it alone on a CPU, where dtypes then clash."""
    if weight is None or weight.dtype == hidden.dtype:
        return inner(hidden, groups, weight, bias, eps)
    bias = None if bias is None else bias.float()
    return inner(hidden.float(), groups, weight.float(), bias, eps).to(hidden.dtype)


class _NoStream:
    """Work on a CPU is done when the call returns."""

    def __init__(self, device: Any = None) -> None:
        self.device = device

    def synchronize(self) -> None:
        """Nothing to wait for."""


class CpuOmniPlatform(OmniPlatform, CpuPlatform):
    """What vLLM-Omni asks a platform, answered for one CPU."""

    _omni_enum = OmniPlatformEnum.OOT

    def __init__(self) -> None:
        super().__init__()
        vllm_layers.dispatch_cpu_unquantized_gemm = _keep_weight
        functional.group_norm = _group_norm
        sys.modules.update(dict.fromkeys(_KERNELS))
        if torch.accelerator.current_accelerator() is None:
            # Workers of the mp executor copy their results on a stream of the accelerator.
            torch.accelerator.current_accelerator = lambda *args: torch.device("cpu")
            torch.Stream = _NoStream

    @classmethod
    def get_diffusion_attn_backend_cls(
        cls,
        selected_backend: str | None,
        head_size: int,
        allow_trtllm_default: bool = False,
    ) -> str:
        return "vllm_omni_cpu.attention.CpuAttentionBackend"

    @classmethod
    def get_diffusion_worker_cls(cls) -> str:
        from vllm_omni.diffusion import ipc

        if not hasattr(ipc, "_tensor_to_shm_on_stream"):
            inner = ipc._tensor_to_shm_on_stream = ipc._tensor_to_shm
            ipc._tensor_to_shm = lambda tensor, d2h_stream=None, **more: inner(tensor, **more)
        return super().get_diffusion_worker_cls()

    @classmethod
    def supports_torch_inductor(cls) -> bool:
        return False

    @classmethod
    def supports_diffusion_dense_flash_attention(cls) -> bool:
        return False

    @classmethod
    def get_default_stage_config_path(cls) -> str:
        return "vllm_omni/deploy"

    @classmethod
    def get_torch_device(cls, local_rank: int | None = None) -> torch.device:
        # Asked for before any model is made.
        importlib.import_module("vllm_omni_cpu.rope")
        return torch.device("cpu")

    @classmethod
    def get_device_count(cls) -> int:
        return 1

    @classmethod
    def get_device_version(cls) -> str | None:
        return None

    @classmethod
    def synchronize(cls) -> None:
        """A CPU has nothing to wait for."""

    @classmethod
    def get_free_memory(cls, device: torch.device | None = None) -> int:
        return int(psutil.virtual_memory().available)

    @classmethod
    def get_device_memory(cls, device: torch.device | None = None) -> tuple[int, int]:
        memory = psutil.virtual_memory()
        return int(memory.available), int(memory.total)

    @classmethod
    def reset_peak_memory_stats(cls, *args: Any) -> None:
        """Nothing is counted."""

    @classmethod
    def empty_cache(cls) -> None:
        """Nothing is cached."""

    @classmethod
    def max_memory_allocated(cls, *args: Any) -> int:
        return 0

    @classmethod
    def max_memory_reserved(cls, *args: Any) -> int:
        return 0
