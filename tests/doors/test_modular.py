"""Pipelines of Modular diffusers: no adapter names their classes; the error says what works."""

from __future__ import annotations

from typing import Any

import pytest

from cachedit_yaml import AdapterNotFoundError, CompileError, enable, find_adapter
from tests.tiny import build

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def modular() -> Any:
    from diffusers import FluxAutoBlocks

    return FluxAutoBlocks().sub_blocks["denoise"].init_pipeline()


def test_the_error_says_what_works() -> None:
    parts = build("FluxPipeline").components
    pipe = modular()
    for loaded in (False, True):
        # The class of its transformer is known before it is loaded.
        with pytest.raises(AdapterNotFoundError) as found:
            enable(pipe)
        assert "its transformer is a FluxTransformer2DModel, served by flux (" in str(found.value)
        assert str(found.value).split("\n")[1].endswith("adapters/flux.yaml): enable(pipe, 'flux')")
        if not loaded:
            with pytest.raises(CompileError, match="transformer is not loaded; call"):
                enable(pipe, "flux")
            pipe.update_components(transformer=parts["transformer"], scheduler=parts["scheduler"])
    with enable(pipe, "flux", cache_config={"Fn_compute_blocks": 1}) as handle:
        assert handle.plan.transformers[0].module is parts["transformer"]


def test_blocks_are_no_pipeline() -> None:
    from diffusers import FluxAutoBlocks

    for target in (FluxAutoBlocks(), FluxAutoBlocks):
        with pytest.raises(AdapterNotFoundError, match=r"are blocks; .* init_pipeline\(\) makes"):
            enable(target)
    with pytest.raises(AdapterNotFoundError):
        find_adapter(FluxAutoBlocks)


def test_a_pipeline_of_ones_own_with_a_known_transformer() -> None:
    class Mine:
        def __init__(self, **parts: Any) -> None:
            vars(self).update(parts)

    transformer = build("FluxPipeline").transformer
    with pytest.raises(AdapterNotFoundError, match=r"enable\(pipe, 'flux'\)"):
        enable(Mine(transformer=transformer))
    with pytest.raises(AdapterNotFoundError, match=r"enable_transformer\(pipe.dit, 'flux'\)"):
        enable(Mine(dit=transformer, unused=None))
    with pytest.raises(AdapterNotFoundError) as found:
        enable(Mine(other=transformer.proj_out))
    assert "served by" not in str(found.value)
