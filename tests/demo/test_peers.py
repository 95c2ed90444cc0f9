"""The caches that `benchmarks.frontier` holds ours against: they skip, and leave nothing behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import peers
from benchmarks.contenders import contenders
from benchmarks.sheets import front, needed, table
from cachedit_yaml.generating.demo.models import MODELS
from cachedit_yaml.generating.generate import call_pipeline

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
STEPS = 12


@pytest.mark.parametrize("name", MODELS)
def test_each_kind_skips_and_leaves_nothing_behind(name: str) -> None:
    model = MODELS[name]
    pipeline = model.load()
    call = {**model.call(pipeline, ["cat"]), "num_inference_steps": STEPS, "output_type": "np"}

    def make() -> Any:
        return call_pipeline(pipeline, call, [3])[0].images

    plain = make()
    # Of each kind the last settings, which skip most.
    lines = {line[0]: line for line in contenders(model, pipeline, STEPS, make)}
    assert {"FirstBlockCache", "MagCache", "TaylorSeer", "TeaCache", "cache-dit DBCache"} <= set(
        lines
    )
    for kind, settings, switch in lines.values():
        if kind.startswith("tuned"):  # for other numbers of steps
            continue
        made = []
        for _ in range(2):
            with peers.counted(pipeline.transformer) as count, switch() as begin:
                begin()
                made.append(make())
            blocks = len(peers.blocks_of(pipeline.transformer))
            forwards = STEPS * (2 if name == "flux" else 1)
            assert count.called == blocks * forwards, kind
            assert 0 < count.ran < count.called, (kind, settings)
        assert np.array_equal(*made), kind
        assert not np.array_equal(plain, made[0]), kind
        assert np.array_equal(plain, make()), kind


@pytest.mark.parametrize("name", MODELS)
def test_teacache_with_no_patience_changes_nothing(name: str) -> None:
    model = MODELS[name]
    pipeline = model.load()
    call = {**model.call(pipeline, ["cat"]), "num_inference_steps": 6, "output_type": "np"}
    plain = call_pipeline(pipeline, call, [3])[0].images
    branches = 2 if name == "flux" else 1
    tea = peers.TeaCache(pipeline.transformer, peers.blocks_of(pipeline.transformer), 6, branches)
    tea.fit(lambda: call_pipeline(pipeline, call, [4]))
    assert len(tea.polynomial.coeffs) == 5
    with tea.on(0.0), torch.no_grad():
        assert np.array_equal(plain, call_pipeline(pipeline, call, [3])[0].images)


def test_what_a_quality_takes_is_read_off_the_front() -> None:
    def row(blocks: float, decibel: float) -> dict[str, float]:
        same = dict.fromkeys(("pooled", "mean", "worst"), decibel)
        return {"blocks": blocks, "ssim": 1.0, "time": blocks, **same}

    rows = {
        ("one", "a"): row(0.2, 34.0),
        ("one", "b"): row(0.3, 33.0),
        ("one", "c"): row(0.4, 44.0),
    }
    points = front(rows, "one", "mean")
    assert points == [(0.2, 34.0), (0.4, 44.0)]
    assert [needed(points, x) for x in (30, 39, 44, 45)] == ["<= 20.0%", "30.0%", "40.0%", "-"]
    text = table("heading", rows)
    assert text.count("one: ") == 3
    assert "one" + " " * 31 in text
