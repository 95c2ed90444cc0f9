"""A pipeline of vLLM-Omni from a probe: a small checkpoint, loaded and run by the engine itself.

The components become a folder as the engine loads it; the transformers only their configs, because
their weights are random numbers by their own parameters' names. The engine's own worker makes the
pipeline and runs the requests.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch

from cachedit_yaml.engines.vllm_omni.checkpoint import write_checkpoint
from cachedit_yaml.engines.vllm_omni.inside import make_inside
from cachedit_yaml.engines.vllm_omni.plugin import register
from cachedit_yaml.engines.vllm_omni.worker import (
    close,
    inside,
    load,
    new_folder,
    start,
    working_in,
)
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.classes import NotInstalledError, ProbeError
from cachedit_yaml.probe.parts import randomise
from cachedit_yaml.probe.pipelines import STEPS, Built, quiet, silence, tensor_of
from cachedit_yaml.probe.recipe import PLAIN, Recipe
from cachedit_yaml.probe.values import Maker
from cachedit_yaml.runtime.handle import Handle

#: Inputs that are what is asked for; every other one says how.
_PROMPT: Final = (
    "prompt",
    "negative_prompt",
    "prompt_embeds",
    "modalities",
    "additional_information",
)
_MEDIA: Final = ("image", "last_image", "mask", "audio", "video")
_ENVIRONMENT: Final = {"TORCH_COMPILE_DISABLE": "1", "VLLM_CONFIGURE_LOGGING": "0"}


class Omni:
    """A small pipeline of the engine, to be run again and again.

    Attributes:
        spec: the adapter.
        recipe: what it was made from.
        target: the engine's live pipeline.
    """

    def __init__(self, spec: AdapterSpec, recipe: Recipe, worker: Any) -> None:
        from vllm_omni.diffusion.registry import get_diffusion_pre_process_func

        self.spec = spec
        self.recipe = recipe
        self._worker = worker
        # It may read the checkpoint, which is there only now.
        self._prepare: Any = get_diffusion_pre_process_func(worker.od_config)
        self.target: Any = worker.model_runner.pipeline
        self._runtimes = runtimes_of(self.target)
        self._leave_alone()

    def begin(self, handle: Handle, steps: int = STEPS) -> None:
        """Let the engine tell a handle of every request, as it tells its own cache backend."""
        self.backend = _Backend(handle)
        for runtime in self._runtimes:
            vars(runtime).pop("prepare", None)
            runtime.disable()
        if self._runtimes:  # as the engine's runner does at the start
            self.target.adopt_cache_dit_backend(self.backend)
            self.backend = None

    def _leave_alone(self) -> None:
        """Keep a pipeline that switches caches by itself from it."""
        for runtime in self._runtimes:
            runtime.prepare = lambda spec: None

    @property
    def backend(self) -> Any:
        """What the engine tells of every request; None for nothing."""
        return self._worker.model_runner.cache_backend

    @backend.setter
    def backend(self, backend: Any) -> None:
        self._worker.model_runner.cache_backend = backend

    def config(self) -> Mapping[str, Any]:
        """The fields that shapes may name: those of its first transformer's config."""
        parts = [self.recipe.parts.get(path) for path in self.spec.transformers]
        return next((part.config or {} for part in parts if part is not None), {})

    def run(self, case: str = PLAIN, steps: int = STEPS) -> torch.Tensor:
        """Run one case from the same random numbers and return its output as one tensor.

        Raises:
            ProbeError: an input cannot be made, or the engine refuses the request.
        """
        if not any(runtime.is_enabled for runtime in self._runtimes):
            self._leave_alone()
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(0)
            output = self._worker.model_runner.execute_model(self._request(case, steps))
        if output.error is not None:
            raise ProbeError(f"the engine refuses the request: {output.error}")
        # No inference tensor: it is compared, and hashed, outside.
        return tensor_of(output.output if output.media is None else output.media).clone()

    def _request(self, case: str, steps: int) -> Any:
        from vllm_omni.diffusion.request import OmniDiffusionRequest
        from vllm_omni.inputs.data import OmniDiffusionSamplingParams

        maker = Maker(self.config(), steps)
        specs = {**self.recipe.inputs, **self.recipe.cases[case]}
        given = {name: maker.make(value, (name,)) for name, value in specs.items()}
        prompt: dict[str, Any] = {"prompt": "a red cat"}
        if isinstance(given.get("prompt"), Mapping):  # its other fields, for models of more stages
            prompt |= given.pop("prompt")
        prompt |= {name: given.pop(name) for name in _PROMPT if name in given}
        media = {name: given.pop(name) for name in _MEDIA if given.get(name) is not None}
        if isinstance(media.get("audio"), torch.Tensor):
            media["audio"] = media["audio"].numpy()
        if media:
            prompt["multi_modal_data"] = media
        usual = {"num_inference_steps": steps, "seed": 0, "output_type": "latent"}
        try:
            sampling = OmniDiffusionSamplingParams(**{**usual, **given})
        except (TypeError, ValueError) as error:
            raise ProbeError(f"inputs: {error}") from None
        request = OmniDiffusionRequest(prompt=prompt, request_id="probe", sampling_params=sampling)
        return request if self._prepare is None else self._prepare(request)


class Alone(Built):
    """A transformer of the engine without a pipeline."""

    def __init__(self, spec: AdapterSpec, recipe: Recipe, worker: Any, seed: int) -> None:
        self._worker = worker
        parts = [recipe.parts[path] for path in spec.transformers if path in recipe.parts]
        if not parts or parts[0] is None or parts[0].part is None:
            raise ProbeError("the probe has no part for any transformer of the adapter")
        with self._inside():
            made = make_inside(worker.od_config, parts[0])
            randomise(made, seed)
            for module in made.modules():  # as the engine's loader does after loading
                method: Any = getattr(module, "quant_method", None)
                if hasattr(method, "process_weights_after_loading"):
                    method.process_weights_after_loading(module)
            super().__init__(spec, recipe, made.eval().requires_grad_(False))

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        with inside(self._worker):
            yield

    def run(self, case: str = PLAIN, steps: int = STEPS, **more: Any) -> torch.Tensor:
        """Run it once a step, inside the engine's context."""
        with self._inside():
            return super().run(case, steps, **more)


class _Backend:
    """What the engine's runner takes for its cache backend."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def is_enabled(self) -> bool:
        """Whether a request is to be announced."""
        return self._handle.enabled

    def refresh(self, pipeline: Any, num_inference_steps: int, verbose: bool = True) -> None:
        """Begin a request of so many steps."""
        self._handle.refresh(num_inference_steps)

    def disable(self, pipeline: Any) -> None:
        """Switch it off, as a pipeline does that wants no cache for a request."""
        self._handle.disable()


def runtimes_of(pipeline: Any) -> list[Any]:
    """What a pipeline holds that switches the engine's cache for each request."""
    from vllm_omni.diffusion.cache.cachedit import RequestScopedCacheDiTRuntime

    return [x for x in vars(pipeline).values() if isinstance(x, RequestScopedCacheDiTRuntime)]


def build(spec: AdapterSpec, recipe: Recipe, *, seed: int = 0) -> Omni | Alone:
    """Make what a recipe describes, in the engine.

    Raises:
        NotInstalledError: the engine, or a class that it needs, is not installed.
        ProbeError: it cannot be made; the message says which part.
    """
    if recipe.skip is not None:
        raise NotInstalledError(recipe.skip)
    # Read when the engine is imported: no compiler, and no logs among our own lines.
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from vllm_omni.diffusion.registry import DiffusionModelRegistry
    except ImportError as error:
        raise NotInstalledError(f"vllm_omni is not installed: {error}") from None

    names = [
        name
        for name, model in DiffusionModelRegistry.models.items()
        if model.class_name == recipe.pipeline
    ]
    if recipe.pipeline and not names:
        raise NotInstalledError(f"the installed vLLM-Omni has no {recipe.pipeline}")
    close()
    register()  # the engine's own caches are as they are with this package
    folder = new_folder()
    if names:
        # The class may be registered more than once.
        name = recipe.config.get("model_class_name", names[0])
        write_checkpoint(folder, spec, recipe, name, seed)
    try:
        # Inside the folder, which may hold what the engine would download, by the same name.
        with quiet(), working_in(folder):
            worker = start(folder, recipe, names)
            if not recipe.pipeline:
                return Alone(spec, recipe, worker, seed)
            load(worker, recipe, seed)
    except ProbeError:
        raise
    except Exception as error:
        what = recipe.pipeline or "the transformer"
        raise ProbeError(f"{what} cannot be made: {type(error).__name__}: {error}") from error
    made = Omni(spec, recipe, worker)
    for attribute, value in recipe.attributes.items():
        setattr(made.target, attribute, value)
    silence(made.target)
    return made
