"""The backend for engines without vLLM-Omni."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from cachedit_yaml import AdapterNotFoundError, CompileError, ConfigError
from cachedit_yaml.engines.backend import CacheDiTBackend
from tests import tiny
from tests.drafting import odd

CONFIG = {"residual_diff_threshold": 0.9, "max_warmup_steps": 1}


def test_enable_refresh_disable(caplog: pytest.LogCaptureFixture) -> None:
    pipe = tiny.build("FluxPipeline")
    plain = tiny.run(pipe, steps=8)
    backend = CacheDiTBackend({"adapter": "flux", "profile": "quality", **CONFIG})
    assert not backend.is_enabled()
    backend.enable(pipe)
    assert backend.is_enabled()
    caplog.set_level(logging.INFO, logger="cachedit_yaml")
    results = []
    for _ in range(2):
        backend.refresh(pipe, 8)
        results.append(tiny.run(pipe, steps=8))
        assert backend.stats(pipe).num_steps == 8
        assert backend.stats(pipe).hit_ratio > 0
    assert torch.equal(*results)
    assert not torch.equal(results[0], plain)
    assert "8 steps" in caplog.text
    backend.disable(pipe)
    backend.disable(pipe)
    assert not backend.is_enabled()
    assert torch.equal(tiny.run(pipe, steps=8), plain)
    backend.refresh(pipe, 8)
    assert "not cached" in caplog.text


def test_a_transformer_whose_calls_only_the_engine_counts() -> None:
    model = tiny.transformer("FluxTransformer2DModel")
    inputs = tiny.forward_kwargs(model)
    backend = CacheDiTBackend(CONFIG)
    backend.enable(model)
    for steps in (6, 4):
        backend.refresh(model, steps, verbose=False)
        with torch.no_grad():
            for step in range(steps):
                model(**{**inputs, "timestep": torch.full((1,), 1 - step / steps)})
        rows = backend.stats(model).branches
        assert all(row.executed_steps == tuple(range(steps)) for row in rows)
    backend.disable(model)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"adaptor": "flux"}, "did you mean 'adapter'"),
        ({"residual_diff_treshold": 0.1}, "did you mean 'residual_diff_threshold'"),
        ({"adapter": "engine"}, "not in charge"),
        ({"adapter": 3}, "adapter must be text, not int"),
        ({"residual_diff_threshold": 2}, "residual_diff_threshold"),
    ],
)
def test_what_is_wrong_is_said_at_once(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CacheDiTBackend(config)


def test_a_pipeline_that_is_not_served_is_as_before() -> None:
    pipe = tiny.build("FluxPipeline")
    for name, error in (("no-such", AdapterNotFoundError), ("wan", CompileError)):
        backend = CacheDiTBackend({"adapter": name})
        with pytest.raises(error):
            backend.enable(pipe)
        assert not backend.is_enabled()
    # The engine's own spelling of TaylorSeer and of masks.
    backend = CacheDiTBackend(
        {"enable_taylorseer": True, "taylorseer_order": 2, "scm_steps_mask_policy": "fast"}
    )
    backend.enable(pipe)
    assert tiny.run(pipe, steps=8).isfinite().all()
    assert backend.stats(pipe).hit_ratio > 0 or backend.stats(pipe).warnings
    backend.disable(pipe)


def test_auto_drafts_an_adapter_where_none_serves() -> None:
    model = odd.make(odd.Streams, odd.Pair).__dict__["transformer"]
    backend = CacheDiTBackend({"adapter": "auto", **CONFIG})
    backend.enable(model)
    text = torch.ones(1, 3, odd.WIDTH)
    outputs = []
    for _ in range(3):
        backend.refresh(model, 8)
        with torch.no_grad():
            for step in range(8):
                moment = torch.tensor(1000.0 - 100 * step)
                outputs.append(model(torch.ones(1, 5, odd.WIDTH), moment, text))
    assert backend.stats(model).num_steps == 8
    assert backend.stats(model).hit_ratio > 0
    assert torch.equal(outputs[0], outputs[16])
    backend.disable(model)
    assert "forward" not in vars(model)
    pipe = tiny.build("FluxPipeline")
    backend.enable(pipe)
    tiny.run(pipe, steps=8)
    assert backend.stats(pipe).adapter == "flux"
    backend.disable(pipe)
