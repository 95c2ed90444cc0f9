"""The plugin, which every process of SGLang diffusion loads.

It imports neither torch nor cache-dit nor SGLang: most processes never build a pipeline. Each part
of SGLang that is hooked is hooked when it has been imported. Functions that others have taken by
name before that (``from module import function``) are replaced there as well, as SGLang's own
registry of hooks does; that registry would import what it hooks in every process.
"""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Final

from cachedit_yaml.engines.late import around, when_imported, wrap

#: Below the engine's own logger, so that the engine's handlers and levels apply.
logger = logging.getLogger("sglang.multimodal_gen.cachedit_yaml")

_RUNTIME: Final = "sglang.multimodal_gen.runtime"
CACHE: Final = f"{_RUNTIME}.cache.cache_dit_integration"
STAGE: Final = f"{_RUNTIME}.pipelines_core.stages.denoising"
DIFFUSERS: Final = f"{_RUNTIME}.pipelines.diffusers_pipeline"

_registered = False


def register() -> None:
    """Put the adapters into SGLang. Calling it again does nothing.

    SGLang calls this as a plugin of ``sglang.multimodal_gen.plugins``. What goes wrong is logged,
    and the process starts without the adapters.
    """
    global _registered
    if _registered:
        return
    _registered = True
    when_imported(CACHE, _hook_functions)
    when_imported(STAGE, _hook_stage)
    when_imported(DIFFUSERS, _hook_diffusers)


def _hook_functions(module: ModuleType) -> None:
    from cachedit_yaml.engines.sglang import enabler

    for hook in (
        enabler.enable_cache_on_transformer,
        enabler.enable_cache_on_dual_transformer,
        enabler.refresh_context_on_transformer,
        enabler.refresh_context_on_dual_transformer,
        enabler.disable_cache_on_transformer,
        enabler.get_scm_mask,
        enabler.resolve_cache_dit_request_overrides,
    ):
        around(module, hook.__name__, hook)
    logger.info("cachedit-yaml serves SGLang's transformers")


def _hook_stage(module: ModuleType) -> None:
    from cachedit_yaml.engines.sglang.enabler import call_stage
    from cachedit_yaml.engines.sglang.settings import remember_what_is_given

    wrap(module.DenoisingStage, "__call__", call_stage)
    wrap(module.DenoisingStage, "_build_cache_dit_config", remember_what_is_given)


def _hook_diffusers(module: ModuleType) -> None:
    from cachedit_yaml.engines.sglang.diffusers import apply_cache_dit

    wrap(module.DiffusersPipeline, "_apply_cache_dit", apply_cache_dit)
