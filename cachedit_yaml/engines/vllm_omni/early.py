"""What can be said before a model's weights are loaded, which takes minutes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cachedit_yaml.engines.door import compile_for, stays_with_the_engine
from cachedit_yaml.engines.vllm_omni.enabler import adapter_for, serves
from cachedit_yaml.engines.vllm_omni.settings import read
from cachedit_yaml.errors import CompileError, ConfigError


def check_new_model(inner: Callable[..., Any], loader: Any, *args: Any, **kwargs: Any) -> Any:
    """Around ``DiffusersPipelineLoader._init_from_load_format``, which makes a pipeline.

    Raises:
        CacheditYamlError: somebody asked for what cannot be. Whatever else is wrong is found when
            the engine enables its cache.
    """
    model = inner(loader, *args, **kwargs)
    if loader.od_config.cache_backend == "cache_dit":
        _check(model, loader.od_config)
    return model


def _check(pipeline: Any, config: Any) -> None:
    from cachedit_yaml.compiler.paths import MISSING, follow

    request = read(config.cache_config)
    try:
        if not serves(pipeline, request):
            return
        if steps(config) and request.execution != "loop":
            raise ConfigError(
                f"execution {request.execution!r} has one cache for all requests, and with "
                "step_execution each needs its own; leave it out, or write 'loop'"
            )
        spec = adapter_for(pipeline, request)
        if spec is None:
            if steps(config):
                raise ConfigError(
                    "adapter 'auto' watches one generation, and with step_execution several run in "
                    "turns; write the adapter with `cachedit-yaml init`"
                )
            request.settings()
            return
        # Some pipelines make their transformers while they load them.
        declared = spec.transformers.items()
        if any(follow(pipeline, path) in (None, MISSING) for path, x in declared if not x.optional):
            request.settings()
            return
        compile_for(
            spec,
            pipeline,
            profile=request.profile,
            settings=request.settings(),
            where="cache_config",
        )
        if compiles_whole(pipeline, config):
            raise CompileError(
                f"{type(pipeline).__name__} cannot be cached:",
                [
                    "diffusion_compile_granularity='full' makes one graph of each transformer, "
                    "where no block can be skipped; leave it out, and the blocks are compiled"
                ],
            )
    except Exception as error:
        if not stays_with_the_engine(error, named=request.named):
            raise


def steps(config: Any) -> bool:
    """Whether the engine is going to run requests step by step."""
    return bool(config.step_execution or config.streaming_output)


def compiles_whole(pipeline: Any, config: Any) -> bool:
    """Whether the engine is going to compile each transformer as a whole."""
    from vllm_omni.platforms import current_omni_platform

    return (
        not config.enforce_eager
        and config.diffusion_compile_granularity == "full"
        and not hasattr(pipeline, "setup_compile")
        and current_omni_platform.supports_torch_inductor()
    )
