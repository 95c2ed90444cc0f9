"""The trace: what it says of one cached step is what one cached step does."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cachedit_yaml
from cachedit_yaml.probe.pipelines import quiet
from cachedit_yaml.tuning import residuals, trace
from cachedit_yaml.tuning.candidates import bins
from cachedit_yaml.tuning.record import Recorder, tracing, watching
from cachedit_yaml.tuning.store import pack, unpack
from cachedit_yaml.tuning.surrogate import Surrogate
from cachedit_yaml.tuning.trace import at_places
from tests import tiny

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

STEPS = 6


def traced(pipe: Any, case: str = "plain") -> tuple[Recorder, torch.Tensor]:
    with quiet(), tracing(pipe, cachedit_yaml.find_adapter(pipe)) as recorder:
        output = tiny.run(pipe, case, STEPS)
    return recorder, output


@pytest.mark.parametrize(
    ("pipeline", "case"),
    [
        ("DiTPipeline", "plain"),  # guidance as one batch
        ("PixArtSigmaPipeline", "plain"),  # a learned variance
        ("FluxPipeline", "plain"),  # two lists
        ("FluxPipeline", "guided"),  # two forwards a step
        ("QwenImagePipeline", "plain"),
        ("StableDiffusion3Pipeline", "plain"),
        ("WanPipeline", "plain"),
    ],
)
def test_what_one_cached_step_does(pipeline: str, case: str) -> None:
    pipe = tiny.build(pipeline)
    plain = tiny.run(pipe, case, STEPS)
    recorder, output = traced(pipe, case)
    assert torch.equal(output, plain)
    units = recorder.units()
    assert not recorder.notes
    assert units
    surrogate = Surrogate([units])
    assert surrogate.steps == STEPS
    mask = [1] * (STEPS - 1) + [0]
    settings = surrogate.mask(mask, order=0).settings
    with cachedit_yaml.enable(pipe, cache_config=dict(settings)) as handle:
        watched = Recorder()
        with watching(handle.plan, watched):
            tiny.run(pipe, case, STEPS)
    assert recorder.final is not None
    assert watched.final is not None
    samples = units[0].errors[0, 0].shape[2]
    real = at_places(watched.final[:samples].float()) - at_places(recorder.final[:samples].float())
    expected = sum(unit.errors[0, 0][-1, 1] for unit in units)
    assert float(real.abs().max()) > 0
    near = np.isclose(real.numpy(), expected, rtol=1e-2, atol=1e-2 * float(real.abs().max()))
    # DDIM clips what it predicts, and where it does so nothing is left of an error.
    assert near.mean() > (0.8 if pipeline == "DiTPipeline" else 0.999)


APART = {
    "schema": 1,
    "pipelines": ["FluxPipeline"],
    "transformers": {
        "transformer": {
            "class": ["FluxTransformer2DModel"],
            "blocks": {
                "transformer_blocks": "Pattern_1",
                "single_transformer_blocks": "Pattern_1",
            },
        }
    },
}


@pytest.mark.parametrize("adapter", ["flux", APART], ids=["follows", "each for itself"])
def test_first_and_last_blocks(adapter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any F and B, and where one list decides for both."""
    monkeypatch.setattr(trace, "_COST", 99)
    pipe = tiny.build("FluxPipeline")
    spec = cachedit_yaml.load_adapter(adapter)
    with quiet(), tracing(pipe, spec) as recorder:
        tiny.run(pipe, steps=STEPS)
    (unit,) = recorder.units()
    assert set(unit.errors) == {(0, 0), (1, 0), (1, 1), (2, 0)}
    assert unit.leaders == ((0, 1) if adapter is APART else (0, 0))
    scm = {"policy": "static", **bins([1] * (STEPS - 1) + [0])}
    for fn, bn in unit.errors:
        config = {
            "Fn_compute_blocks": fn,
            "Bn_compute_blocks": bn,
            "max_warmup_steps": 0,
            "scm": scm,
        }
        with cachedit_yaml.enable(pipe, spec, cache_config={**config, "scm": scm}) as handle:
            watched = Recorder()
            with watching(handle.plan, watched):
                tiny.run(pipe, steps=STEPS)
            ran = 1 - handle.stats().computed_fraction
        # A list of four blocks each, and one of six steps.
        assert ran == pytest.approx((8 - unit.always(fn, bn).sum()) / 8 / STEPS)
        assert recorder.final is not None
        assert watched.final is not None
        real = at_places(watched.final.float()) - at_places(recorder.final.float())
        assert float(real.abs().max()) > 0
        expected = unit.errors[fn, bn][-1, 1]
        assert np.allclose(real.numpy(), expected, rtol=1e-2, atol=1e-2 * float(real.abs().max()))


def test_the_pipeline_is_as_before() -> None:
    pipe = tiny.build("FluxPipeline")
    tiny.run(pipe, steps=2)
    before = {**vars(pipe.transformer)}, {**vars(pipe.scheduler)}
    traced(pipe)
    after = {**vars(pipe.transformer)}, {**vars(pipe.scheduler)}
    assert [set(item) for item in after] == [set(item) for item in before]
    assert cachedit_yaml.handle_of(pipe) is None


def test_residuals_may_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, and on the disk: what comes out is the same."""
    pipe = tiny.build("FluxPipeline")
    adapter = cachedit_yaml.find_adapter(pipe)
    found = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for ring in residuals.RINGS[1:3]:
        with quiet(), tracing(pipe, adapter, ring) as recorder:
            tiny.run(pipe, steps=STEPS)
        found.append(recorder.units()[0].errors[1, 0])
    assert np.array_equal(*found, equal_nan=True)
    assert not list(tmp_path.iterdir())


def test_units_survive_their_folder() -> None:
    recorder, _ = traced(tiny.build("FluxPipeline"), "guided")
    units = recorder.units()
    (again,) = unpack(pack([units]))
    assert len(again) == len(units) == 2
    for one, other in zip(again, units, strict=True):
        assert (one.branch, one.steps, one.blocks) == (other.branch, other.steps, other.blocks)
        for mine, its in ((one.errors, other.errors), (one.differences, other.differences)):
            assert mine.keys() == its.keys()
            assert all(np.array_equal(mine[key], its[key], equal_nan=True) for key in its)
