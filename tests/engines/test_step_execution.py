"""A cache under step execution: requests at different steps, each as if it were alone."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from vllm_omni.diffusion.compile import regionally_compile

from tests.engines import checkpoints
from tests.engines.engine import Engine, running
from tests.engines.steps import Ask, near, run, same

pytestmark = pytest.mark.engines

HITS = {"residual_diff_threshold": 0.9, "max_warmup_steps": 2}
NEGATIVE = {"prompt": "a red cat", "negative_prompt": "a blue dog"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    model = checkpoints.build("qwen_image", tmp_path_factory.mktemp("checkpoints"))
    arguments: dict[str, Any] = {
        "step_execution": True, "max_num_seqs": 4,
        "cache_backend": "cache_dit", "cache_config": HITS,
    }  # fmt: skip
    with running("qwen_image", model, **arguments) as engine:
        yield engine


ASKS = {
    "one": Ask("a red cat"),
    "two": Ask("a blue dog", sampling={"seed": 1}),
    "longer": Ask("a lighthouse in a storm", 2, sampling={"num_inference_steps": 12}),
    "guided": Ask(NEGATIVE, 3, sampling={"true_cfg_scale": 4.0}),
    "larger": Ask("a red cat", 4, sampling={"height": 96}),
    "late": Ask("a green bird", 9, sampling={"num_inference_steps": 7, "seed": 2}),
}


def test_the_engine_starts_and_generates(engine: Engine) -> None:
    first = engine.generate()
    stats = engine.handle.stats()
    assert stats.hit_ratio > 0
    assert stats.num_steps == 8
    assert (engine.generate() == first).all()


@contextmanager
def uncached(engine: Engine) -> Iterator[None]:
    """The same engine without a cache."""
    config = engine.runner.od_config
    engine.backend.disable(engine.pipeline)
    config.cache_backend = None
    try:
        yield
    finally:
        config.cache_backend = "cache_dit"
        engine.backend.enable(engine.pipeline)


def test_with_no_hit_every_request_equals_the_uncached_one(engine: Engine) -> None:
    wish = {"extra_args": {"cachedit": {"residual_diff_threshold": 0.0}}}
    asks = {name: ask._replace(sampling={**ask.sampling, **wish}) for name, ask in ASKS.items()}
    for together in (4, 1):
        with uncached(engine):
            plain = run(engine.runner, ASKS, together=together)
        for name, result in run(engine.runner, asks, together=together).items():
            assert same(result.output, plain[name].output), name
            assert result.stats[-1].hit_ratio == 0


def test_every_request_is_as_if_it_were_alone(engine: Engine) -> None:
    alone = {name: run(engine.runner, {name: ask})[name] for name, ask in ASKS.items()}
    with uncached(engine):
        plain = run(engine.runner, ASKS)
    for name, result in plain.items():
        assert not near(result.output, alone[name].output), name
    for together in (4, 1):
        found = run(engine.runner, ASKS, together=together)
        assert any(max(item.waves) > 1 for item in found.values()) == (together > 1)
        equal = near if together > 1 else same
        for name, result in found.items():
            assert equal(result.output, alone[name].output), name
            (stats,), (lonely,) = result.stats[-1:], alone[name].stats[-1:]
            assert stats.hit_ratio > 0, name
            assert stats.ended == "finished"
            assert [row.cached_steps for row in stats.branches] == [
                row.cached_steps for row in lonely.branches
            ]
            assert len(stats.branches) == (2 if name == "guided" else 1)


def test_requests_choose_their_profiles_and_settings(engine: Engine) -> None:
    wishes: dict[str, dict[str, Any]] = {
        "server": {},
        "settings": {"extra_args": {"cachedit": {"max_cached_steps": 1}}},
        "profile": {"extra_args": {"cachedit": {"profile": "fast", "max_warmup_steps": 1}}},
        "mask": {"extra_args": {"cachedit": {"scm": {"preset": "fast", "policy": "static"}}}},
        "blocks": {"extra_args": {"cachedit": {"Fn_compute_blocks": 2}}},
        "high": {"quality": "high"},
        "lossless": {"quality": "lossless"},
    }
    asks = {name: Ask("a red cat", sampling=sampling) for name, sampling in wishes.items()}
    alone = {name: run(engine.runner, {name: ask})[name] for name, ask in asks.items()}
    found = run(engine.runner, asks)
    cached = {}
    for name, result in found.items():
        assert near(result.output, alone[name].output), name
        cached[name] = [row.cached_steps for row in result.stats[-1].branches]
    assert min(cached["server"][0]) == 2
    assert cached["settings"][0] == cached["server"][0][:1] != cached["server"][0]
    assert cached["lossless"] == []
    assert cached["mask"] == [(3, 5, 6)]
    assert len({str(item.output) for item in found.values()}) >= 4
    with uncached(engine):
        (plain,) = run(engine.runner, {"plain": Ask("a red cat")}).values()
    assert near(found["lossless"].output, plain.output)


def test_several_pictures_of_a_prompt(engine: Engine) -> None:
    """They are rows of one request, and share forwards with those of others."""
    two, four = {"num_outputs_per_prompt": 2}, {"true_cfg_scale": 4.0}
    longer = {"num_inference_steps": 12, "seed": 3}
    asks = {
        "one": Ask("a red cat", sampling=two),
        "other": Ask("two dogs in the rain", 2, sampling={**two, **longer}),
        "guided": Ask(NEGATIVE, 2, sampling={**two, **four}),
        "longer": Ask({**NEGATIVE, "prompt": "a bird"}, 3, sampling={**two, **four, **longer}),
    }
    found = run(engine.runner, asks)
    for name, ask in asks.items():
        (alone,) = run(engine.runner, {name: ask}).values()
        assert near(found[name].output, alone.output), name
        assert max(found[name].waves) == 2
        (stats,), (lonely,) = found[name].stats[-1:], alone.stats[-1:]
        assert stats.hit_ratio > 0
        steps = [
            [[own.cached_steps for own in row.samples] for row in item.branches]
            for item in (stats, lonely)
        ]
        assert steps[0] == steps[1]


def test_each_way_of_deciding_and_masks_beside_differences(engine: Engine) -> None:
    wishes: dict[str, dict[str, Any]] = {
        "server": {},
        "never": {"residual_diff_threshold": 0.0},
        "worst": {"batch": "worst"},
        "mean": {"batch": "mean"},
        "mask": {"scm": {"mask": [1, 1, 0, 1, 0, 0, 1, 0], "policy": "static"}},
        "dynamic mask": {"scm": {"preset": "fast", "policy": "dynamic"}},
    }
    asks = {}
    for late, scale in ((0, 1.0), (6, 4.0)):  # the engine batches those of one guidance
        for wave, (name, wish) in enumerate(wishes.items(), late):
            sampling = {
                "num_outputs_per_prompt": 2, "seed": wave, "true_cfg_scale": scale,
                "extra_args": {"cachedit": wish},
            }  # fmt: skip
            asks[f"{name} {scale}"] = Ask(NEGATIVE, wave, sampling=sampling)
    found = run(engine.runner, asks, together=8)
    for name, ask in asks.items():
        (alone,) = run(engine.runner, {name: ask}).values()
        assert near(found[name].output, alone.output), name
        (stats,), (lonely,) = found[name].stats[-1:], alone.stats[-1:]
        assert [row.cached_steps for row in stats.branches] == [
            row.cached_steps for row in lonely.branches
        ]
    assert max(max(result.waves) for result in found.values()) >= 4


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"residual_diff_treshold": 0.1}, "did you mean 'residual_diff_threshold'"),
        ({"profile": "fasst"}, "has no profile 'fasst'"),
        ({"Fn_compute_blocks": 99}, "write at most"),
        ({"adapter": "flux"}, "has no key 'adapter'"),
        ("fast", "is no mapping"),
    ],
)
def test_a_wrong_wish_fails_its_request_alone(engine: Engine, wish: Any, message: str) -> None:
    asks = {
        "good": Ask("a red cat"),
        "bad": Ask("a red cat", 1, sampling={"extra_args": {"cachedit": wish}}),
    }
    found = run(engine.runner, asks)
    (alone,) = run(engine.runner, {"alone": asks["good"]}).values()
    assert message in str(found["bad"].error)
    assert found["bad"].output is None
    assert same(found["good"].output, alone.output)


@contextmanager
def counted(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """Every block that runs, with how many rows it gets; -1 for a forward of the transformer."""
    blocks = engine.pipeline.transformer.transformer_blocks
    places = {id(block): index for index, block in enumerate(blocks)}
    found: list[tuple[int, int]] = []
    engine.backend.disable(engine.pipeline)
    with monkeypatch.context() as patch:
        for cls in (type(blocks[0]), type(engine.pipeline.transformer)):
            inner = cls.forward

            def forward(self: Any, hidden_states: Any, *args: Any, inner: Any = inner, **kw: Any):
                found.append((places.get(id(self), -1), len(hidden_states)))
                return inner(self, hidden_states, *args, **kw)

            patch.setattr(cls, "forward", forward)
        engine.backend.enable(engine.pipeline)
        try:
            yield found
        finally:
            engine.backend.disable(engine.pipeline)
    engine.backend.enable(engine.pipeline)


def test_requests_share_forwards_and_blocks_run_on_rows_that_miss(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three that hit three steps, one of them late, and one that never does."""
    never = {"extra_args": {"cachedit": {"residual_diff_threshold": 0.0}}}
    asks = {
        "one": Ask("a red cat"),
        "two": Ask("a dog in the rain"),
        "late": Ask("a bird", 3),
        "never": Ask("a green bird on a lake", sampling=never),
    }
    last = len(engine.pipeline.transformer.transformer_blocks) - 1
    with counted(engine, monkeypatch) as found:
        run(engine.runner, asks)  # each block is proved once
        found.clear()
        results = run(engine.runner, asks)
    assert [result.waves for result in results.values()] == [
        [3, 3, 3, 4, 4, 4, 4, 4],
        [3, 3, 3, 4, 4, 4, 4, 4],
        [4, 4, 4, 4, 4, 1, 1, 1],
        [3, 3, 3, 4, 4, 4, 4, 4],
    ]
    # One forward a wave.
    assert [rows for block, rows in found if block == -1] == [3] * 3 + [4] * 5 + [1] * 3
    # Warm-up; the two that came first hit in their steps 2, 3 and 4, the late one in waves 5, 6, 7.
    assert [rows for block, rows in found if block == last] == [3, 3, 1, 2, 2, 3, 3, 3, 1, 1, 1]
    assert [rows for block, rows in found if block == 0] == [3] * 3 + [4] * 5 + [1] * 3
    for name, result in results.items():
        (row,) = result.stats[-1].branches
        assert row.cached_steps == (() if name == "never" else (2, 3, 4))
        assert row.computed_blocks == 8 * (last + 1) - len(row.cached_steps) * last


def test_rows_that_cannot_be_told_apart_get_forwards_of_their_own(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As many as the picture has tokens: the positions of those look like rows."""
    logging.getLogger("vllm_omni").propagate = True
    caplog.set_level(logging.WARNING, logger="vllm_omni.cachedit_yaml")
    never = {"extra_args": {"cachedit": {"residual_diff_threshold": 0.0}}}
    mask = {"extra_args": {"cachedit": {"scm": {"preset": "fast", "policy": "static"}}}}
    asks = {str(seed): Ask("a red cat", sampling={"seed": seed, **mask}) for seed in range(15)}
    asks["never"] = Ask("a blue dog", sampling=never)
    with counted(engine, monkeypatch) as found:
        results = run(engine.runner, asks, together=16)
    # The step in which most hit runs again, and from then on each has forwards of its own.
    assert [rows for block, rows in found if block == -1] == [16] * 5 + [1] * 16 * 4
    assert caplog.text.count("each request gets a forward of its own: a block ") == 1
    alone = run(engine.runner, {"never": asks["never"]})["never"]
    assert near(results["never"].output, alone.output)
    for name, result in results.items():
        assert result.error is None
        (row,) = result.stats[-1].branches
        assert row.cached_steps == (() if name == "never" else (5, 6))  # and 3 where it is alone


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileCounter]:
    """The compiler, which the other tests do without; it asks the accelerator for its stream."""
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_, **__: None)
    torch._dynamo.reset()
    with torch._dynamo.config.patch(disable=False):
        yield CompileCounter()
    torch._dynamo.reset()


@pytest.mark.parametrize("dynamic", [True, False])
def test_compiled_blocks_have_no_graph_for_each_number_of_rows(
    engine: Engine, compiler: CompileCounter, dynamic: bool
) -> None:
    """By region, as the engine does, with its own two values of `diffusion_compile_dynamic`."""
    computed = (9, 7, 3, 1, 5, 2, 8, 4)
    asks, plain = {}, {}
    for row in range(9):
        mask = {"mask": [int(row < count) for count in computed], "policy": "static"}
        wish = {"scm": mask, "max_warmup_steps": 0, "max_continuous_cached_steps": -1}
        more = {"seed": row, "height": 96, "extra_args": {"cachedit": wish}}
        # No length is a number of rows.
        asks[str(row)] = Ask("a lighthouse in a storm", sampling=more)
        fewer = {**more, "num_inference_steps": 2 + row, "extra_args": {}}
        plain[str(row)] = Ask("a lighthouse in a storm", sampling=fewer)
    wanted = run(engine.runner, asks, together=9)
    blocks = list(engine.pipeline.transformer.transformer_blocks)
    engine.backend.disable(engine.pipeline)
    regionally_compile(engine.pipeline.transformer, dynamic=dynamic, backend=compiler)
    engine.backend.enable(engine.pipeline)
    try:
        if dynamic:
            with uncached(engine):
                run(engine.runner, plain, together=9)  # batches of 9, 8 ... 1
            before = compiler.frame_count
            assert 0 < before <= 4
        found = run(engine.runner, asks, together=9)
        assert compiler.frame_count <= (before if dynamic else 3)
    finally:
        engine.backend.disable(engine.pipeline)
        for block in blocks:
            del block.forward
        engine.backend.enable(engine.pipeline)
    for name, result in found.items():
        assert near(result.output, wanted[name].output), name
        (row,) = result.stats[-1].branches
        assert row.cached_steps == tuple(i for i in range(8) if int(name) >= computed[i])


def held(engine: Engine) -> list[torch.Size]:
    """The shapes of what the blocks hand on, wherever it is held."""
    gc.collect()
    width = engine.pipeline.transformer.inner_dim
    tensors = [x for x in gc.get_objects() if issubclass(type(x), torch.Tensor)]
    return sorted(x.shape for x in tensors if x.ndim == 3 and x.shape[-1] == width)


def test_an_aborted_one_and_a_failing_one_leave_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = {
        "good": Ask("a red cat"),
        "aborted": Ask("a blue dog", 1, 5),
        "failing": Ask("a green bird", 2, sampling={"seed": 3}),
    }
    (alone,) = run(engine.runner, {"alone": asks["good"]}).values()
    before = held(engine)
    inner, shared = engine.pipeline.step_scheduler, []

    def step_scheduler(state: Any, *args: Any, **kwargs: Any) -> None:
        if state.request_id == "failing" and state.step_index == 4:
            shared.append(len(held(engine)))
            raise ValueError("no more")
        inner(state, *args, **kwargs)

    monkeypatch.setattr(engine.pipeline, "step_scheduler", step_scheduler)
    found = run(engine.runner, asks)
    assert near(found["good"].output, alone.output)
    assert found["aborted"].output is None
    assert found["failing"].error == "no more"
    assert found["aborted"].stats[-1].ended == found["failing"].stats[-1].ended
    assert found["failing"].stats[-1].ended == "its request is gone"
    assert shared[0] > len(before)
    assert held(engine) == before


def test_what_the_log_says(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("vllm_omni").propagate = True
    caplog.set_level(logging.INFO, logger="vllm_omni.cachedit_yaml")
    run(engine.runner, {"mine": Ask("a red cat")})
    assert "cache of request mine: qwen-image (loop): 8 steps" in caplog.text


def test_another_backend_is_refused_as_before(engine: Engine) -> None:
    engine.backend.disable(engine.pipeline)
    try:
        with pytest.raises(ValueError, match="Step mode does not support cache_backend yet"):
            run(engine.runner, {"one": Ask("a red cat")})
    finally:
        engine.backend.enable(engine.pipeline)
