"""What requests do to a cache that outlives them: Wan 2.2, the hardest of the pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.engines import checkpoints
from tests.engines.engine import Engine, running

pytestmark = pytest.mark.engines

CONFIG = {"residual_diff_threshold": 0.9, "max_warmup_steps": 1}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    model = checkpoints.build("wan_two", tmp_path_factory.mktemp("checkpoints"))
    with running("wan_two", model, boundary_ratio=None) as engine:
        yield engine


def fresh(engine: Engine, **request: Any) -> torch.Tensor:
    """The result of a request to an engine that has seen no other."""
    with engine.cached(CONFIG):
        engine.generate(**request)
        return engine.latents[0]


def test_every_request_is_independent_of_those_before_it(engine: Engine) -> None:
    requests: list[dict[str, Any]] = [
        {},
        {"guidance_scale": 1.0},
        {"num_inference_steps": 12},
        {"height": 96, "width": 64},
        {"num_inference_steps": None},  # the pipeline's own default, 40
        {"seed": 1},
        {"num_frames": 9},
        {"guidance_scale": 4.0, "guidance_scale_2": 1.0},  # guidance in the noisy steps only
        {"boundary_ratio": 0.5},
        {},
    ]
    alone = [fresh(engine, **request) for request in requests]
    with engine.cached(CONFIG):
        for request, wanted in zip(requests, alone, strict=True):
            engine.generate(**request)
            assert torch.equal(engine.latents[0], wanted), request
            stats = engine.handle.stats()
            assert stats.num_steps == (request.get("num_inference_steps", 8) or 40), request
            executed = {row.transformer: len(row.executed_steps) for row in stats.branches}
            assert sum(executed.values()) <= stats.num_steps
            assert stats.hit_ratio > 0


def test_the_boundary_is_the_engines_default_where_nobody_says_one(engine: Engine) -> None:
    assert engine.pipeline.boundary_ratio is None
    with engine.cached(CONFIG):
        engine.generate()
        rows = engine.handle.stats().branches
        assert {row.transformer: row.executed_steps for row in rows} == {
            "transformer": (0, 1, 2, 3),
            "transformer_2": (0, 1, 2, 3),
        }
    # A mask has as many entries as each transformer has steps.
    with engine.cached({"scm": {"preset": "fast", "policy": "static"}, "max_warmup_steps": 0}):
        engine.generate(num_inference_steps=16)
        rows = engine.handle.stats().branches
        assert sum(len(row.executed_steps) for row in rows) == 2 * 16
        assert all(row.cached_steps for row in rows)


def test_a_request_may_say_another_boundary(engine: Engine) -> None:
    with engine.cached(CONFIG):
        for ratio, high in ((0.95, 2), (0.5, 7), (None, 4)):
            engine.generate(boundary_ratio=ratio)
            rows = engine.handle.stats().branches
            assert {row.transformer: len(row.executed_steps) for row in rows} == {
                "transformer": high,
                "transformer_2": 8 - high,
            }
            assert not any("step_split" in text for text in engine.handle.stats().warnings)


def test_request_scoped_switching(engine: Engine) -> None:
    from vllm_omni.diffusion.cache.cachedit import (
        CacheDiTRequestSpec,
        RequestScopedCacheDiTRuntime,
    )
    from vllm_omni.diffusion.data import DiffusionCacheConfig

    engine.generate()
    plain = engine.latents[0]
    runtime = RequestScopedCacheDiTRuntime(engine.pipeline)

    def spec(key: str, **config: Any) -> CacheDiTRequestSpec:
        return CacheDiTRequestSpec(key, DiffusionCacheConfig.from_dict(config), 8)

    runtime.prepare(spec("a", **CONFIG))
    engine.generate()
    first = engine.latents[0]
    handle = engine.handle
    assert handle.stats().hit_ratio > 0
    runtime.prepare(spec("a", **CONFIG))
    assert engine.handle is handle  # the same profile stays installed
    engine.generate()
    assert torch.equal(engine.latents[0], first)
    runtime.prepare(spec("b", residual_diff_threshold=0.0))
    assert engine.handle is not handle
    engine.generate()
    assert torch.equal(engine.latents[0], plain)
    runtime.prepare(None)
    assert not runtime.is_enabled
    engine.generate()
    assert torch.equal(engine.latents[0], plain)


def test_disable_leaves_nothing(engine: Engine) -> None:
    """On any transformer, where vLLM-Omni's own code for Wan leaves the second one cached."""

    def state() -> set[tuple[str, str, int]]:
        """Every attribute, and which object those are that a call goes through."""
        called = ("forward", "_compiled_call_impl", "_forward_hooks", "_forward_pre_hooks")
        return {
            (path, name, id(value) if name in called else 0)
            for path, module in engine.pipeline.named_modules()
            for name, value in vars(module).items()
        }

    engine.generate()
    plain, before = engine.latents[0], state()
    scheduler = sorted(vars(engine.pipeline.scheduler))
    with engine.cached(CONFIG):
        engine.generate()
        assert not torch.equal(engine.latents[0], plain)
    after = state()
    assert sorted(before ^ after) == []
    assert sorted(vars(engine.pipeline.scheduler)) == scheduler
    engine.generate()
    assert torch.equal(engine.latents[0], plain)


def test_an_aborted_generation_leaves_nothing_behind(engine: Engine) -> None:
    wanted = fresh(engine)
    calls: list[int] = []
    raised: list[str] = []

    def fail(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 5:
            raise RuntimeError("out of memory")

    with engine.cached(CONFIG):
        hook = engine.pipeline.transformer.blocks[2].register_forward_pre_hook(fail)
        inner = engine.pipeline.forward

        def twice(request: Any) -> Any:
            try:
                inner(request)
            except RuntimeError as error:
                raised.append(str(error))
            hook.remove()
            for sampling in request.sampling_params_list:
                sampling.generator.manual_seed(sampling.seed)
            return inner(request)

        engine.pipeline.forward = twice
        engine.generate()
        engine.pipeline.forward = inner
        assert raised == ["out of memory"]
        assert torch.equal(engine.latents[-1], wanted)
