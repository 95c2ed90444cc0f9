"""The plugins, which run in every process of the engine.

They import neither torch nor cache-dit: most processes never build a pipeline. Where one does, the
engine imports its Cache-DiT package first, and everything else happens then.
"""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Final

from cachedit_yaml.engines.late import around, when_imported, wrap
from cachedit_yaml.engines.vllm_omni.given import refuse_broken_text, remember_what_is_given

#: Below the engine's own logger, so that the engine's handlers and levels apply.
logger = logging.getLogger("vllm_omni.cachedit_yaml")

BACKEND: Final = "vllm_omni.diffusion.cache.cachedit"
CONFIG: Final = "vllm_omni.diffusion.data"
ENGINE: Final = "vllm_omni.engine.omni_engine_base"
RUNNER: Final = "vllm_omni.diffusion.worker.diffusion_model_runner"
SCHEDULER: Final = "vllm_omni.diffusion.sched.request_scheduler"
LOADER: Final = "vllm_omni.diffusion.model_loader.diffusers_loader"

_watching = _registered = False


def register() -> None:
    """Put the adapters into vLLM-Omni. Calling it again does nothing."""
    global _registered
    if _registered:
        return
    _registered = True
    watch()
    when_imported(BACKEND, _fill_table)
    when_imported(LOADER, _look_at_new_models)
    when_imported(RUNNER, _serve_step_execution)
    when_imported(SCHEDULER, _batch_by_wishes)


def watch() -> None:
    """Watch what is given to the engine, which reads it before it loads plugins.

    The engine calls this, as a plugin of ``vllm_omni.platform_plugins``, when it looks for the
    platform that it runs on. None says: not this one.
    """
    global _watching
    if not _watching:
        _watching = True
        when_imported(CONFIG, remember_what_is_given)
        when_imported(ENGINE, refuse_broken_text)


def _fill_table(module: ModuleType) -> None:
    from cachedit_yaml.engines.vllm_omni.enabler import install

    names = install(module)
    logger.info("cachedit-yaml serves %d pipeline classes: %s", len(names), ", ".join(names))


def _look_at_new_models(module: ModuleType) -> None:
    from cachedit_yaml.engines.vllm_omni.early import check_new_model

    wrap(module.DiffusersPipelineLoader, "_init_from_load_format", check_new_model)


def _serve_step_execution(module: ModuleType) -> None:
    from cachedit_yaml.engines.vllm_omni.stepwise import run_step

    wrap(module.DiffusionModelRunner, "_execute_stepwise", run_step)


def _batch_by_wishes(module: ModuleType) -> None:
    from cachedit_yaml.engines.vllm_omni.wishes import batch_by_wishes

    around(module, "build_request_batch_sampling_params_key", batch_by_wishes)
