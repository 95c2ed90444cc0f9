"""A cache under step execution: requests at different steps, each as if it were alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.engines import checkpoints
from tests.engines.engine import Engine, running
from tests.engines.steps import Ask, run, same

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
    "late": Ask("a green bird", 9, sampling={"num_inference_steps": 5, "seed": 2}),
}


def test_the_engine_starts_and_generates(engine: Engine) -> None:
    first = engine.generate()
    stats = engine.handle.stats()
    assert stats.hit_ratio > 0
    assert stats.num_steps == 8
    assert (engine.generate() == first).all()


def test_every_request_is_as_if_it_were_alone(engine: Engine) -> None:
    alone = {name: run(engine.runner, {name: ask})[name] for name, ask in ASKS.items()}
    for together in (4, 1):
        found = run(engine.runner, ASKS, together=together)
        assert any(max(item.waves) > 1 for item in found.values()) == (together > 1)
        for name, result in found.items():
            assert same(result.output, alone[name].output), name
            (stats,), (lonely,) = result.stats[-1:], alone[name].stats[-1:]
            assert stats.hit_ratio > 0, name
            assert stats.ended == "finished"
            assert [row.cached_steps for row in stats.branches] == [
                row.cached_steps for row in lonely.branches
            ]
            assert len(stats.branches) == (2 if name == "guided" else 1)
