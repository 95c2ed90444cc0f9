"""The same small pipelines under vLLM-Omni's own cache code.

That code counts forwards, and is told by hand how many make a step. Here it gets the same steps to
serve from the cache as ours, whatever the differences: where fewer or other blocks run then, or the
output differs, it takes other steps or other buffers than the request has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch

import cachedit_yaml
from cachedit_yaml.engines.vllm_omni.probe import Omni, build
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.recipe import Recipe
from cachedit_yaml.probe.rival import Rival, error_of
from cachedit_yaml.probe.watch import Watch

#: Steps of a call. vLLM-Omni has masks for 4, 6, and 8 or more.
_STEPS: Final = 8
_COMMON: Final[Mapping[str, Any]] = {
    "Fn_compute_blocks": 1,
    "Bn_compute_blocks": 0,
    "max_warmup_steps": 0,
    "max_cached_steps": -1,
    "max_continuous_cached_steps": -1,
}
_NO_HIT: Final[Mapping[str, Any]] = {**_COMMON, "residual_diff_threshold": 0.0}
_OURS: Final[Mapping[str, Any]] = {**_COMMON, "scm": {"preset": "fast", "policy": "static"}}
_THEIRS: Final[Mapping[str, Any]] = {
    **_COMMON,
    "scm_steps_mask_policy": "fast",
    "scm_steps_policy": "static",
}


def against_own_code(spec: AdapterSpec, recipe: Recipe) -> Rival:
    """Try vLLM-Omni's own cache code on every case of a pipeline.

    Args:
        spec: the adapter whose probe makes the pipeline.
        recipe: which pipeline, and which make of it; what its own code leaves behind stays on it.
    """
    built = build(spec, recipe)
    assert isinstance(built, Omni)
    from vllm_omni.diffusion.models.interface import SupportsRequestScopedCacheDiT

    if isinstance(built.target, SupportsRequestScopedCacheDiT):
        return Rival("untried", "the pipeline switches the engine's cache for each request itself")
    plan = cachedit_yaml.compile_adapter(built.spec, built.target)
    wrong: list[tuple[float, str]] = []
    with Watch(plan) as watch:

        def run(case: str) -> tuple[torch.Tensor, int]:
            watch.clear()
            output = built.run(case, _STEPS)
            return output, sum(watch.calls.values())

        expected: dict[str, tuple[torch.Tensor, int, torch.Tensor, int]] = {}
        for case in built.recipe.cases:
            plain = run(case)
            with cachedit_yaml.enable(built.target, built.spec, cache_config=_OURS) as handle:
                built.begin(handle)
                expected[case] = (*plain, *run(case))
        for case, (plain_output, all_blocks, output, blocks) in expected.items():
            try:
                with own_code(built, _NO_HIT):
                    untouched, _ = run(case)
                with own_code(built, _THEIRS):
                    theirs, ran = run(case)
            except Exception as error:
                text = " ".join(f"{type(error).__name__}: {error}".split())
                return Rival("refuses", f"{case}: {text[:200]}")
            if not torch.equal(untouched, plain_output):
                error_ = error_of(untouched, plain_output)
                wrong.append((1 + error_, f"{case}: mean error {error_:.2g} with no hit"))
            elif ran != blocks:
                what = "it never hits" if ran == all_blocks else f"{ran} blocks run, not {blocks}"
                wrong.append((1, f"{case}: {what}"))
            elif not torch.equal(theirs, output):
                error_ = error_of(theirs, output)
                what = "as many blocks run, at other steps or from other buffers"
                wrong.append((error_, f"{case}: {what} ({error_:.2g} apart)"))
    if wrong:
        return Rival("wrong", max(wrong)[1])
    return Rival("equal")


@contextmanager
def own_code(built: Omni, settings: Mapping[str, Any]) -> Iterator[None]:
    """Switch vLLM-Omni's own cache code on with some settings, and off again."""
    from cache_dit.caching.block_adapters import FakeDiffusionPipeline
    from vllm_omni.diffusion.cache.cachedit import CacheDiTBackend

    # A mark that cache-dit leaves on a class of its own; with it, some of that code does nothing.
    if "_is_cached" in vars(FakeDiffusionPipeline):
        del FakeDiffusionPipeline._is_cached
    # Where our plugin is loaded, it leaves this request to the engine.
    backend = CacheDiTBackend({**settings, "adapter": "engine"})
    backend.enable(built.target)
    built.backend = backend
    try:
        yield
    finally:
        built.backend = None
        backend.disable(built.target)
        if "_is_cached" in vars(FakeDiffusionPipeline):
            del FakeDiffusionPipeline._is_cached
