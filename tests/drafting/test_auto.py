"""``enable(pipeline, "auto")``."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch

import cachedit_yaml
from cachedit_yaml.drafting.auto import automatic
from cachedit_yaml.errors import CacheRuntimeError, CompileError, ConfigError, DraftError
from tests import tiny
from tests.drafting import odd


def test_it_watches_then_caches(caplog: pytest.LogCaptureFixture) -> None:
    pipe: Any = odd.make(odd.Streams, odd.Pair)
    plain = pipe(steps=12)
    handle = cachedit_yaml.enable(
        pipe, "auto", cache_config={"scm": {"preset": "fast", "policy": "static"}}
    )
    assert cachedit_yaml.handle_of(pipe) is handle
    assert "still watched" in repr(handle)
    assert torch.equal(pipe(steps=12), plain)
    with pytest.raises(CacheRuntimeError, match="the first generation is still watched"):
        handle.stats()
    with caplog.at_level(logging.INFO, "cachedit_yaml"):
        pipe(steps=12)
    assert "blocks: {pattern: Pattern_1" in caplog.text
    stats = handle.stats()
    assert stats.num_steps == 12
    assert stats.adapter == "Pipeline"
    assert any(item.cached_steps for item in stats.branches)
    handle.disable()
    assert not handle.enabled
    assert cachedit_yaml.handle_of(pipe) is None
    assert torch.equal(pipe(steps=12), plain)
    assert "forward" not in vars(pipe.transformer)
    assert not {"step", "set_timesteps"} & {*vars(pipe.scheduler)}


def test_it_says_why_not(caplog: pytest.LogCaptureFixture) -> None:
    pipe: Any = odd.make(odd.Collecting)
    plain = pipe()
    with cachedit_yaml.enable(pipe, "auto") as handle:
        pipe()
        assert torch.equal(pipe(), plain)
        assert "is not cached: it must not be cached: blocks: what its blocks return" in caplog.text
        with pytest.raises(CacheRuntimeError, match="it must not be cached"):
            handle.stats()
    assert "forward" not in vars(pipe.transformer)


def test_it_can_be_ended_before_it_began() -> None:
    pipe: Any = odd.make(odd.Plain)
    cachedit_yaml.enable(pipe, "auto")
    assert cachedit_yaml.disable(pipe)
    assert not cachedit_yaml.disable(pipe)
    assert "forward" not in vars(pipe.transformer)


def test_gradients_hide_what_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    class WithGradients(odd.Pipeline):
        __call__ = odd.Pipeline.__call__.__wrapped__

    pipe: Any = WithGradients(odd.Plain(odd.Block))
    with cachedit_yaml.enable(pipe, "auto"):
        pipe()
        pipe()
        assert "run it under torch.no_grad()" in caplog.text


def test_an_adapter_that_exists_is_taken() -> None:
    with cachedit_yaml.enable(tiny.build("FluxPipeline"), "auto") as handle:
        assert handle.plan.spec.name == "flux"


def test_a_transformer_alone_has_no_scheduler() -> None:
    with pytest.raises(DraftError, match="needs a scheduler"):
        cachedit_yaml.enable(odd.Plain(odd.Block), "auto")


def test_a_fault_of_ours_leaves_the_generation_alone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> Any:
        raise ZeroDivisionError("no luck")

    pipe: Any = odd.make(odd.Plain)
    plain = pipe()
    monkeypatch.setattr("cachedit_yaml.drafting.auto.drafted", broken)
    with cachedit_yaml.enable(pipe, "auto") as handle:
        pipe()
        assert torch.equal(pipe(), plain)
        assert "Pipeline is not cached" in caplog.text
        with pytest.raises(CacheRuntimeError, match="ZeroDivisionError: no luck"):
            handle.stats()


def test_nothing_is_watched_twice() -> None:
    pipe: Any = odd.make(odd.Plain)
    spec = cachedit_yaml.infer(pipe, pipe).spec
    with cachedit_yaml.enable(pipe, "auto"):
        with pytest.raises(ConfigError, match="cached or watched already"):
            cachedit_yaml.enable(pipe, "auto")
        with pytest.raises(CompileError, match="is watched by enable"):
            cachedit_yaml.enable(pipe, spec)
    with cachedit_yaml.enable(pipe, spec):
        pass


def test_what_nobody_can_hold_is_left_alone() -> None:
    class Unhashable(odd.Pipeline):
        __hash__ = None

    pipe: Any = Unhashable(odd.Plain(odd.Block))
    with pytest.raises(ConfigError, match="cannot keep track of a Unhashable"):
        cachedit_yaml.enable(pipe, "auto")
    assert "forward" not in vars(pipe.transformer)


class Copying(odd.Pipeline):
    """Steps a copy of its scheduler, made anew in each call."""

    def __call__(self, steps: int = 4, seed: int = 0) -> torch.Tensor:
        own: Any = self.__dict__["scheduler"]
        self.__dict__["scheduler"] = copy.deepcopy(own)
        try:
            return super().__call__(steps, seed)
        finally:
            self.__dict__["scheduler"] = own


def test_a_scheduler_that_is_copied_or_replaced() -> None:
    """The timesteps tell, which go back to the first one."""
    torch.manual_seed(0)
    pipe: Any = Copying(odd.Plain(odd.Block))
    plain = pipe(steps=12)
    with cachedit_yaml.enable(pipe, "auto", cache_config={"residual_diff_threshold": 0}) as handle:
        assert torch.equal(pipe(steps=12), plain)
        assert handle.why_not is None
        assert torch.equal(pipe(steps=12), plain)
        assert handle.handle is not None
        assert handle.stats().num_steps == 12
    other: Any = odd.make(odd.Plain)
    with cachedit_yaml.enable(other, "auto") as handle:
        other()
        other.scheduler = type(other.scheduler).from_config(other.scheduler.config)
        other()
        assert handle.handle is not None
    assert "forward" not in vars(other.transformer)


def test_what_nothing_tells_is_bounded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cachedit_yaml.drafting.watch.MOST_CALLS", 40)
    pipe: Any = odd.make(odd.Plain)
    latents, text = torch.ones(1, 5, odd.WIDTH), torch.ones(1, 3, odd.WIDTH)
    with cachedit_yaml.enable(pipe, "auto") as handle, torch.no_grad():
        for _ in range(20):
            pipe.transformer(latents, torch.tensor(1.0), text)
        assert "where its first generation ends" in handle.why_not
        assert "its scheduler was replaced or copied" in caplog.text
    assert "forward" not in vars(pipe.transformer)


def test_an_engine_that_tells() -> None:
    """No scheduler, and timesteps that fall on from one generation to the next."""
    model = odd.make(odd.Plain).__dict__["transformer"]
    text = torch.ones(1, 3, odd.WIDTH)
    handle: Any = automatic(model, {"cache_config": {"residual_diff_threshold": 0.9}}, told=True)
    moment = 1000.0
    with torch.no_grad():
        for _ in range(3):
            handle.refresh(12)
            for _ in range(12):
                moment -= 1
                model(torch.ones(1, 5, odd.WIDTH), torch.tensor(moment), text)
    assert handle.stats().num_steps == 12
    assert any(row.cached_steps for row in handle.stats().branches)
    handle.disable()
    assert "forward" not in vars(model)
