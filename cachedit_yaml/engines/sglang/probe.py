"""A transformer of SGLang from a probe: alone, inside what the engine's worker sets up.

The engine makes it from a config of its own, as its loader does, and its weights are random. The
worker's groups, for one rank, and its arguments are global; they end with the transformer.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch

from cachedit_yaml.language.probe_spec import Part
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.classes import NotInstalledError, ProbeError, find_part
from cachedit_yaml.probe.limits import counted
from cachedit_yaml.probe.parts import randomise
from cachedit_yaml.probe.pipelines import STEPS, Built, quiet
from cachedit_yaml.probe.recipe import PLAIN, Recipe
from cachedit_yaml.probe.values import Maker, generator

#: The field of the engine's pipeline configs that holds a transformer's.
_DIT: Final = "dit_config"


class Sgl(Built):
    """A small transformer of the engine, to be run again and again."""

    def run(self, case: str = PLAIN, steps: int = STEPS, **more: Any) -> torch.Tensor:
        """Run one case, in float32 as the weights are, whatever the engine would cast to."""
        with torch.autocast("cpu", enabled=False):
            return super().run(case, steps, **more)

    def forward(self, step: int, arguments: Mapping[str, Any]) -> Any:
        """Call the transformer as the engine's denoising stage does it."""
        from sglang.multimodal_gen.runtime.managers.forward_context import set_forward_context

        with set_forward_context(current_timestep=step, attn_metadata=None):
            return self.target(**arguments)


def build(spec: AdapterSpec, recipe: Recipe, *, seed: int = 0) -> Sgl:
    """Make what a recipe describes, in the engine.

    Raises:
        NotInstalledError: the engine, or a class that it needs, is not installed.
        ProbeError: it cannot be made; the message says why.
    """
    if recipe.skip is not None:
        raise NotInstalledError(recipe.skip)
    path, part = _part(spec, recipe)
    # Read when the engine is imported: its loggers take their level from here.
    os.environ.setdefault("SGLANG_DIFFUSION_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
    try:
        with quiet():
            from sglang.multimodal_gen.runtime.platforms import current_platform
    except ImportError as error:
        raise NotInstalledError(f"sglang is not installed: {error}") from None
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            start()
            if not current_platform.is_cpu():
                name = type(current_platform).__name__
                raise NotInstalledError(f"small models run on a CPU, and SGLang has its {name}")
            return Sgl(spec, recipe, _make(part, recipe, f"{seed}/{path}"))
    except ProbeError:
        raise
    except Exception as error:
        text = f"{part.part} cannot be made: {type(error).__name__}: {error}"
        raise ProbeError(text) from error


def _part(spec: AdapterSpec, recipe: Recipe) -> tuple[str, Part]:
    for path in spec.transformers:
        part = recipe.parts.get(path)
        if part is not None and part.part is not None:
            return path, part
    raise ProbeError("the probe has no part for any transformer of the adapter")


#: What transformers need, which is global in the engine.
_open: Final = contextlib.ExitStack()


def close() -> None:
    """End the engine's groups, so that another engine can start."""
    _open.close()


def start() -> None:
    """What the engine's worker does before it builds a pipeline, with one rank.

    Calling it again does nothing.
    """
    from sglang.multimodal_gen.configs.pipeline_configs.base import PipelineConfig
    from sglang.multimodal_gen.runtime.distributed import parallel_state
    from sglang.multimodal_gen.runtime.platforms import initialize_current_platform
    from sglang.multimodal_gen.runtime.server_args import ServerArgs, set_global_server_args

    if parallel_state.world_group_is_initialized():
        return
    initialize_current_platform()
    # Every backend but this one is of compiled kernels.
    arguments = ServerArgs(
        model_path="probe",
        pipeline_config=PipelineConfig(),
        attention_backend="torch_sdpa",
        log_level="error",
    )
    set_global_server_args(arguments)
    _open.callback(set_global_server_args, None)
    _open.enter_context(_environment(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1"))
    _open.enter_context(_environment(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_port())))
    _open.callback(parallel_state.cleanup_dist_env_and_memory)
    parallel_state.maybe_init_distributed_environment_and_model_parallel(tp_size=1, sp_size=1)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _make(part: Part, recipe: Recipe, seed: str) -> torch.nn.Module:
    """Make a module of the engine as its loader does, but with random weights."""
    cls = find_part(part.part or "")
    plain = dict(part.config or {})
    inner = {name: _inner(value) for name, value in plain.items() if _is_inner(value)}
    given: dict[str, Any] = Maker({}, 0).make(
        {name: value for name, value in plain.items() if name not in inner}, ("config",)
    )
    for name, value in inner.items():
        given[name] = _make(value, recipe, f"{seed}/{name}")
    parameters = inspect.signature(cls).parameters
    if "config" in parameters:
        config = _config(cls, recipe, given)
        also = {"hf_config": given} if "hf_config" in parameters else {}
        given = {"config": config, **also}
    with counted():
        made: torch.nn.Module = cls(**given)
    if not inner:  # else it only holds what has been filled already
        randomise(made, seed)
        _fill_buffers(made, seed)
    _finish(made, part)
    return made


def _is_inner(value: Any) -> bool:
    return (
        isinstance(value, Mapping) and "part" in value and {*value} <= {"part", "config", "dtype"}
    )


def _inner(value: Mapping[str, Any]) -> Part:
    """A module that another takes, given like a part."""
    return Part(part=value["part"], config=value.get("config"), dtype=value.get("dtype"))


def _config(cls: type, recipe: Recipe, fields: dict[str, Any]) -> Any:
    """The engine's config for a class: of the class that the probe says, or its constructor."""
    given = dict(recipe.config)
    wanted = given.pop(_DIT, None)
    if given:
        raise ProbeError(f"config: for SGLang there is {_DIT!r} only, not {', '.join(given)}")
    if wanted is not None:
        return _updated(Maker({}, 0).make(wanted, (_DIT,)), fields)
    found = inspect.signature(cls).parameters["config"].annotation
    if isinstance(found, str):
        found = getattr(sys.modules[cls.__module__], found, None)
    if not (inspect.isclass(found) and found is not inspect.Parameter.empty):
        raise ProbeError(
            f"the constructor of {cls.__name__} does not say of which class its config is; say it "
            f"as 'config: {{{_DIT}: {{make: sglang.multimodal_gen.configs.models.dits....}}}}'"
        )
    if not hasattr(found, "update_model_arch"):
        return found(**fields)  # a language model's, of transformers
    return _updated(found(), fields)


def _updated(config: Any, fields: dict[str, Any]) -> Any:
    """A config of the engine's with what a checkpoint's ``config.json`` would say."""
    if not hasattr(config, "update_model_arch"):
        raise ProbeError(f"config: '{_DIT}' is no config of SGLang's transformers: {config!r}")
    config.update_model_arch(dict(fields))
    config.post_diffusers_config_update()
    return config


@torch.no_grad()
def _fill_buffers(made: torch.nn.Module, seed: str) -> None:
    """Fill what lies in a checkpoint beside parameters: some of it has no value before loading."""
    saved = made.state_dict()
    for name, buffer in made.named_buffers():
        if name in saved and buffer.is_floating_point():
            buffer.copy_(torch.rand(buffer.shape, generator=generator(seed, name)))


def _finish(made: torch.nn.Module, part: Part) -> None:
    """What the engine does after loading; in the part's dtype, or in those of the class itself."""
    if part.dtype is not None:
        made.to(getattr(torch, part.dtype))
    made.eval().requires_grad_(False)
    for module in made.modules():
        method: Any = getattr(module, "quant_method", None)
        if hasattr(method, "process_weights_after_loading"):
            method.process_weights_after_loading(module)
