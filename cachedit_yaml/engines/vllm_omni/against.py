"""The same small pipelines under vLLM-Omni's own cache code.

That code counts forwards, and is told by hand how many make a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from cachedit_yaml.engines.vllm_omni.probe import Omni, build
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.recipe import Recipe
from cachedit_yaml.probe.rival import Rival, beside

_COMMON: Final[Mapping[str, Any]] = {
    "Fn_compute_blocks": 1,
    "Bn_compute_blocks": 0,
    "max_warmup_steps": 0,
    "max_cached_steps": -1,
    "max_continuous_cached_steps": -1,
}
_OURS: Final[Mapping[str, Any]] = {**_COMMON, "scm": {"preset": "fast", "policy": "static"}}
_HITS: Final[Mapping[str, Any]] = {
    "scm_steps_mask_policy": "fast",
    "scm_steps_policy": "static",
}


def compare(spec: AdapterSpec, recipe: Recipe) -> Rival | None:
    """Try vLLM-Omni's own cache code on every case of a pipeline.

    Args:
        spec: the adapter whose probe makes the pipeline.
        recipe: which pipeline, and which make of it.
    """
    built = build(spec, recipe) if recipe.pipeline else None
    if not isinstance(built, Omni):  # it knows no transformer alone
        return None
    from vllm_omni.diffusion.cache.cachedit import CacheDiTBackend
    from vllm_omni.diffusion.models.interface import SupportsRequestScopedCacheDiT

    if isinstance(built.target, SupportsRequestScopedCacheDiT):
        return Rival("untried", "the pipeline switches the engine's cache for each request itself")

    @contextmanager
    def own_code(_: str, hits: bool) -> Iterator[None]:
        settings = _HITS if hits else {"residual_diff_threshold": 0.0}
        # Where our plugin is loaded, it leaves this request to the engine.
        backend = CacheDiTBackend({**_COMMON, **settings, "adapter": "engine"})
        backend.enable(built.target)
        built.backend = backend
        try:
            yield
        finally:
            built.backend = None
            backend.disable(built.target)

    return beside(built, _OURS, own_code)
