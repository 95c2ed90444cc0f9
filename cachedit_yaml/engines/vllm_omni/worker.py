"""vLLM-Omni's own worker in this process, without a server: one at a time, for what a probe makes.

Its groups and configs are global, and it reads its folder at requests too: both stay until the next
one, or :func:`close`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from cachedit_yaml.engines.vllm_omni.checkpoint import config_fields
from cachedit_yaml.engines.vllm_omni.inside import Untouched, put_inside
from cachedit_yaml.probe.parts import randomise
from cachedit_yaml.probe.recipe import Recipe

#: What a pipeline has that switches the engine's cache for each request itself.
ADOPTS: Final = "adopt_cache_dit_backend"
_open: Final = contextlib.ExitStack()


def close() -> None:
    """Shut down the worker of the last pipeline, so that another engine can start."""
    _open.close()


def new_folder() -> Path:
    """An empty folder for a checkpoint, which goes with the worker."""
    return Path(_open.enter_context(tempfile.TemporaryDirectory()))


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """The folder as the current one, which the engine may look into."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def start(folder: Path, recipe: Recipe, names: list[str]) -> Any:
    """Start the worker, without a model.

    Args:
        folder: the checkpoint.
        recipe: what is to be made of it.
        names: how the engine calls the pipeline's class; none for a transformer alone.
    """
    from vllm_omni.diffusion.data import OmniDiffusionConfig
    from vllm_omni.diffusion.registry import DiffusionModelRegistry
    from vllm_omni.diffusion.worker.diffusion_worker import DiffusionWorker

    fields = config_fields()
    given = {name: placed(value, folder) for name, value in recipe.config.items() if name in fields}
    if names and hasattr(DiffusionModelRegistry.models[names[0]].load_model_cls(), ADOPTS):
        given["cache_backend"] = "cache_dit"  # it looks at this when it is made
    config = OmniDiffusionConfig.from_kwargs(
        **{"model": str(folder), "dtype": "float32", "enforce_eager": True, **given}
    )
    if recipe.pipeline:
        config.enrich_config()
    worker = DiffusionWorker(0, 0, config, skip_load_model=True)
    _open.callback(worker.shutdown)
    return worker


def placed(value: Any, folder: Path) -> Any:
    """A value of the engine's config, where ``{folder: llama}`` is a folder of the checkpoint."""
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"folder"}:
        return str(folder / value["folder"])
    return {name: placed(item, folder) for name, item in value.items()}


def load(worker: Any, recipe: Recipe, seed: int) -> None:
    """Let the engine make the pipeline, with random numbers for weights."""
    from vllm.config import LoadConfig
    from vllm_omni.diffusion.model_loader.diffusers_loader import DiffusersPipelineLoader

    class Loader(DiffusersPipelineLoader):  # type: ignore[misc]
        def load_weights(self, model: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
            put_inside(model, worker.od_config, recipe.parts)
            randomise(model, seed)

    loader = Loader(LoadConfig(), od_config=worker.od_config)
    with inside(worker), Untouched():
        worker.model_runner.pipeline = loader.load_model(
            load_device=str(worker.device), device=worker.device
        )


@contextlib.contextmanager
def inside(worker: Any) -> Iterator[None]:
    """The engine's configs, current while its models are made."""
    from vllm.config import set_current_vllm_config
    from vllm_omni.diffusion.forward_context import set_forward_context

    with (
        set_forward_context(vllm_config=worker.vllm_config, omni_diffusion_config=worker.od_config),
        set_current_vllm_config(worker.vllm_config),
    ):
        yield
