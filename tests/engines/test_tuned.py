"""A profile that `tune` wrote, by its name in vLLM-Omni."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.engines import checkpoints, tuned
from tests.engines.engine import STEPS, Engine, running

pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    model = checkpoints.build("flux", tmp_path_factory.mktemp("checkpoints"))
    with running("flux", model) as engine:
        yield engine


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tuned.write(tmp_path_factory.mktemp("adapters"))


def test_by_its_name(engine: Engine, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the file's path, and found by the pipeline's class; a mask with F = 0 as it is."""
    assert tuned.STEPS == STEPS
    engine.generate()
    plain = engine.latents[0]
    made = {}
    for profile in ("half", "steady"):
        with engine.cached({"adapter": str(file), "profile": profile}):
            engine.generate()
            made[profile] = engine.latents[0]
            handle = engine.handle
            assert handle.plan.profile == profile
            assert handle.plan.spec.source == file
            rows = handle.stats().branches
            resolved = handle.plan.transformers[0].lists[0].layers.resolve(STEPS)
            given = tuned.settings(file, profile)
            assert given
            assert {key: resolved.values[key] for key in given} == given
            if profile == "half":
                assert resolved.fn == 0
                assert all(row.cached_steps == tuned.skipped(resolved) for row in rows)
                # No block runs on a cached step.
                share = 1 - len(tuned.skipped(resolved)) / STEPS
                assert handle.stats().computed_fraction == pytest.approx(share)
    assert not torch.equal(made["half"], plain)
    monkeypatch.setenv("CACHEDIT_YAML_PATH", str(file.parent))
    with engine.cached({"profile": "half"}):
        engine.generate()
        assert torch.equal(engine.latents[0], made["half"])
    # A request's own choice.
    with engine.cached({"adapter": str(file), "residual_diff_threshold": 0.0}):
        engine.generate()
        assert torch.equal(engine.latents[0], plain)
        engine.generate(extra_args={"cachedit": {"profile": "half"}})
        assert torch.equal(engine.latents[0], made["half"])


def test_what_native_execution_does_with_it(engine: Engine, file: Path) -> None:
    """cache-dit needs a first block: a mask with F = 0 is refused, the other profile is used."""
    with engine.cached({"adapter": str(file), "profile": "steady", "execution": "native"}):
        engine.generate()
        assert engine.handle.plan.profile == "steady"
    with (
        pytest.raises(Exception, match="Fn_compute_blocks"),
        engine.cached({"adapter": str(file), "profile": "half", "execution": "native"}),
    ):
        pass
