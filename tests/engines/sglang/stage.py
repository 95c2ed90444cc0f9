"""SGLang's denoising stage as far as it switches the cache: its own code, a stub of a server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch


def stage(
    transformer: torch.nn.Module, transformer_2: torch.nn.Module | None = None, **server: Any
) -> Any:
    """A stage that holds transformers, without the pipeline that would load them."""
    from sglang.multimodal_gen.runtime.pipelines_core.stages.denoising import DenoisingStage

    found = object.__new__(DenoisingStage)
    settings: dict[str, Any] = {
        "cache_dit_config": None,
        "enable_breakable_cuda_graph": False,
        "enable_cfg_parallel": False,
        "enable_torch_compile": False,
        "regional_compile": False,
    }
    found.server_args = SimpleNamespace(**{**settings, **server})
    found.transformer, found.transformer_2 = transformer, transformer_2
    found._cache_dit_enabled = False
    found._cache_dit_request_overrides = {}
    found._cache_dit_active_key = None
    return found


def begin(
    stage: Any,
    steps: int | tuple[int, int],
    params: dict[str, Any] | None = None,
    *,
    guided: bool = False,
    enable: bool | None = True,
) -> None:
    """What the stage does with the cache before a request's denoising loop."""
    from sglang.multimodal_gen.configs.sample.sampling_params import SamplingParams

    sampling = SamplingParams(enable_cache_dit=enable, cache_dit_params=params)
    batch = SimpleNamespace(
        is_warmup=False, do_classifier_free_guidance=guided, sampling_params=sampling
    )
    stage._maybe_enable_cache_dit(steps, batch)


def end(stage: Any) -> None:
    """What the stage does before a request without the cache."""
    begin(stage, 1, enable=False)
