"""The same small transformers under SGLang's own cache code.

That code counts forwards, and is told by the engine whether guidance is a forward of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from cachedit_yaml.engines.sglang.probe import build
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.recipe import GUIDED, Recipe
from cachedit_yaml.probe.rival import STEPS, Rival, beside

_COMMON: Final[Mapping[str, Any]] = {
    "Fn_compute_blocks": 1,
    "Bn_compute_blocks": 0,
    "max_warmup_steps": 2,
    "max_continuous_cached_steps": STEPS,
}
_OURS: Final[Mapping[str, Any]] = {
    **_COMMON,
    "scm": {"compute_bins": [2], "cache_bins": [STEPS - 2], "policy": "static"},
}


def compare(spec: AdapterSpec, recipe: Recipe) -> Rival:
    """Try SGLang's own cache code on every case of a transformer.

    Args:
        spec: the adapter whose probe makes the transformer.
        recipe: which make of it.
    """
    built = build(spec, recipe)  # says so where SGLang is not installed
    from sglang.multimodal_gen.runtime.cache import cache_dit_integration as theirs

    def own(name: str) -> Any:
        # Where our plugin is loaded, the engine's function is below it.
        function = getattr(theirs, name)
        return getattr(function, "__wrapped__", function)

    @contextmanager
    def own_code(case: str, hits: bool) -> Iterator[None]:
        settings = _COMMON if hits else {**_COMMON, "max_warmup_steps": STEPS}
        config = theirs.CacheDitConfig(
            enabled=True,
            num_inference_steps=STEPS,
            steps_computation_mask=[1, 1, *[0] * (STEPS - 2)] if hits else None,
            steps_computation_policy="static",
            **settings,
        )
        guided = case == GUIDED
        own("enable_cache_on_transformer")(built.target, config, has_separate_cfg=guided)
        try:
            yield
        finally:
            own("disable_cache_on_transformer")(built.target)

    return beside(built, _OURS, own_code)
