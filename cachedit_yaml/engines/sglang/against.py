"""The same small transformers under SGLang's own cache code.

That code counts forwards, and is told by the engine whether guidance is a forward of its own. Here
it gets the same steps to serve from the cache as ours: where the output differs then, it takes
other steps or other buffers than the request has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch

import cachedit_yaml
from cachedit_yaml.engines.sglang.probe import build
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.recipe import GUIDED, Recipe
from cachedit_yaml.probe.rival import Rival, error_of

#: Steps of a call, and which of them run.
_STEPS: Final = 8
_MASK: Final = (1, 1, 0, 0, 0, 0, 0, 0)
_COMMON: Final[Mapping[str, Any]] = {
    "Fn_compute_blocks": 1,
    "Bn_compute_blocks": 0,
    "max_warmup_steps": 2,
    "max_continuous_cached_steps": _STEPS,
}
_OURS: Final[Mapping[str, Any]] = {
    **_COMMON,
    "scm": {"compute_bins": [2], "cache_bins": [_STEPS - 2], "policy": "static"},
}


def against_own_code(spec: AdapterSpec, recipe: Recipe) -> Rival:
    """Try SGLang's own cache code on every case of a transformer.

    Args:
        spec: the adapter whose probe makes the transformer.
        recipe: which make of it; what its own code leaves behind stays on it.
    """
    built = build(spec, recipe)
    wrong: list[tuple[float, str]] = []
    for case in built.recipe.cases:
        plain = built.run(case, _STEPS)
        with cachedit_yaml.enable(built.target, built.spec, cache_config=_OURS) as handle:
            handle.refresh(_STEPS)
            ours = built.run(case, _STEPS)
        guided = case == GUIDED
        try:
            with own_code(built.target, guided, {**_COMMON, "max_warmup_steps": _STEPS}):
                untouched = built.run(case, _STEPS)
            with own_code(built.target, guided, _COMMON, mask=_MASK):
                theirs = built.run(case, _STEPS)
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            if "is not officially supported by cache-dit" in text:
                return Rival("absent", "its table has no such class, unless a stage adds it")
            return Rival("refuses", f"{case}: {text[:200]}")
        if not torch.equal(untouched, plain):
            apart = error_of(untouched, plain)
            wrong.append((1 + apart, f"{case}: mean error {apart:.2g} with no hit"))
        elif torch.equal(theirs, plain):
            wrong.append((1, f"{case}: it never hits"))
        elif not torch.equal(theirs, ours):
            apart = error_of(theirs, ours)
            wrong.append((apart, f"{case}: other steps, blocks or buffers ({apart:.2g} apart)"))
    return Rival("wrong", max(wrong)[1]) if wrong else Rival("equal")


@contextmanager
def own_code(
    transformer: torch.nn.Module,
    guided: bool,
    settings: Mapping[str, Any],
    mask: tuple[int, ...] | None = None,
) -> Iterator[None]:
    """Switch SGLang's own cache code on with some settings, and off again."""
    from cache_dit.caching.block_adapters import FakeDiffusionPipeline
    from sglang.multimodal_gen.runtime.cache import cache_dit_integration as theirs

    def forget() -> None:
        # A mark that cache-dit leaves on a class of its own, where it refuses the next one.
        if "_is_cached" in vars(FakeDiffusionPipeline):
            del FakeDiffusionPipeline._is_cached

    def own(name: str) -> Any:
        # Where our plugin is loaded, the engine's function is below it.
        function = getattr(theirs, name)
        return getattr(function, "__wrapped__", function)

    config = theirs.CacheDitConfig(
        enabled=True,
        num_inference_steps=_STEPS,
        steps_computation_mask=None if mask is None else list(mask),
        steps_computation_policy="static",
        **settings,
    )
    forget()
    own("enable_cache_on_transformer")(transformer, config, has_separate_cfg=guided)
    try:
        yield
    finally:
        own("disable_cache_on_transformer")(transformer)
        forget()
