"""The real vLLM-Omni in this process: start it on a small checkpoint, ask it for pictures."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests import tiny
from tests.engines import checkpoints

STEPS = 8
#: What a model needs beyond the common arguments of the engine.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "wan_two": {"boundary_ratio": 0.875},
    "bagel": {"deploy_config": "bagel_single_stage.yaml", "dtype": "bfloat16"},
}
#: What a request of a model needs beyond prompt, size, steps and seed.
REQUEST: dict[str, dict[str, Any]] = {
    "wan": {"num_frames": 5, "output_type": "np", "guidance_scale": 4.0},
    "wan_two": {"num_frames": 5, "output_type": "np", "guidance_scale": 4.0},
    "longcat_image": {"extra_args": {"enable_prompt_rewrite": False}, "guidance_scale": 1.0},
    "z_image": {"guidance_scale": 0.0},
    "sd3": {"guidance_scale": 1.0},
    "flux": {"guidance_scale": 3.5},
}


def shrink(patch: Any) -> None:
    """Make small what the engine does not take from a checkpoint.

    Args:
        patch: pytest's ``monkeypatch``.
    """
    from vllm_omni.diffusion.models.bagel import pipeline_bagel
    from vllm_omni.diffusion.models.z_image import z_image_transformer

    config = checkpoints.described("z_image")[1].parts["transformer"].config
    init = z_image_transformer.ZImageTransformer2DModel.__init__
    parameters = inspect.signature(init).parameters
    defaults = tuple(
        config.get(name, parameter.default)
        for name, parameter in parameters.items()
        if parameter.default is not parameter.empty
    )
    patch.setattr(init, "__defaults__", defaults)

    large = pipeline_bagel.default_ae_params()
    for name, value in {
        "ch": 32,
        "ch_mult": [1, 1, 1, 1],
        "num_res_blocks": 1,
    }.items():
        setattr(large, name, value)
    patch.setattr(pipeline_bagel, "default_ae_params", lambda: large)

    def load_weights(self: torch.nn.Module, weights: Any) -> set[str]:
        self.bfloat16()  # its attention casts to it
        tiny.randomise(self, "bagel")
        return {name for name, _ in self.named_parameters()}

    patch.setattr(pipeline_bagel.BagelPipeline, "load_weights", load_weights)
    # The pipeline mixes dtypes and switches autocast off on a CPU.
    autocast = torch.autocast
    patch.setattr(torch, "autocast", lambda *args, **kw: autocast(*args, **{**kw, "enabled": True}))


class Engine:
    """A running engine.

    Attributes:
        pipeline: the live pipeline.
        latents: what the last generation handed to its VAE.
    """

    def __init__(self, name: str, start: Callable[[], Any]) -> None:
        before = {id(item) for item in _runners()}
        self.name = name
        self.omni = start()
        found = [item for item in _runners() if id(item) not in before]
        self.runner = found[0] if found else None
        self.latents: list[torch.Tensor] = []
        if self.runner is not None:
            self._watch(self.pipeline.vae)

    @classmethod
    def on(cls, name: str, model: Path | str, **arguments: Any) -> Engine:
        """Start the engine on a checkpoint."""
        from vllm_omni import Omni

        given = {"dtype": "float32", **ARGUMENTS.get(name, {}), **arguments}
        return cls(name, lambda: Omni(model=str(model), **{"enforce_eager": True, **given}))

    @property
    def pipeline(self) -> Any:
        """The pipeline, where the engine runs in this process."""
        assert self.runner is not None
        return self.runner.pipeline

    @property
    def backend(self) -> Any:
        """The engine's cache backend."""
        assert self.runner is not None
        return self.runner.cache_backend

    def _watch(self, vae: torch.nn.Module) -> None:
        inner = vae.decode

        def decode(latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            self.latents.append(latents.detach().clone())
            return inner(latents, *args, **kwargs)

        vae.decode = decode

    def generate(self, prompt: Any = "a red cat", **changes: Any) -> np.ndarray:
        """One picture or video, as numbers."""
        from vllm_omni.inputs.data import OmniDiffusionSamplingParams

        self.latents.clear()
        request = {
            "num_inference_steps": STEPS,
            "height": 64,
            "width": 64,
            "seed": 0,
            **REQUEST.get(self.name, {}),
            **changes,
        }
        (output,) = self.omni.generate(
            prompt, OmniDiffusionSamplingParams(**request), use_tqdm=False
        )
        pictures = output.images
        return np.stack([np.asarray(picture) for picture in pictures])

    @contextmanager
    def cached(self, config: dict[str, Any] | None = None, **fields: Any) -> Iterator[Any]:
        """Switch the engine's cache on with a config, and off again, without a new start."""
        from cache_dit.caching.block_adapters import FakeDiffusionPipeline
        from vllm_omni.diffusion.cache.cachedit import CacheDiTBackend

        # A mark that cache-dit leaves on a class of its own; with it, vLLM-Omni's own code for
        # Wan fails in every engine of this process but the first.
        if "_is_cached" in vars(FakeDiffusionPipeline):
            del FakeDiffusionPipeline._is_cached
        assert self.runner is not None
        backend = CacheDiTBackend({**(config or {}), **fields})
        backend.enable(self.pipeline)
        before, self.runner.cache_backend = self.runner.cache_backend, backend
        try:
            yield backend
        finally:
            backend.disable(self.pipeline)
            self.runner.cache_backend = before

    @property
    def handle(self) -> Any:
        """Our handle of the pipeline."""
        return self.pipeline._cache_dit_targets[0].handle

    def cached_steps(self) -> dict[str, tuple[list[int], list[int]]]:
        """Cached steps of both guidance branches by block list, as cache-dit's summary has them."""
        import cache_dit

        found: dict[str, tuple[list[int], list[int]]] = {}
        for target in self.pipeline._cache_dit_targets:
            for stats in cache_dit.summary(target, logging=False):
                if stats.residual_diffs or stats.accumulated_executed_steps:
                    key = str(len(found))
                    found[key] = (stats.cached_steps, stats.cfg_cached_steps)
        return found

    def close(self) -> None:
        """Stop the engine."""
        self.omni.close()
        self.runner = None
        gc.collect()


def _runners() -> list[Any]:
    from vllm_omni.diffusion.worker.diffusion_model_runner import DiffusionModelRunner

    return [item for item in gc.get_objects() if type(item) is DiffusionModelRunner]


@contextmanager
def running(name: str, model: Path | str, **arguments: Any) -> Iterator[Engine]:
    """An engine, stopped in the end."""
    engine = Engine.on(name, model, **arguments)
    try:
        yield engine
    finally:
        engine.close()
