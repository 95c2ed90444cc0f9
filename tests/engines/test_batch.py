"""How the samples of a batch decide, as the engine's config says: with four pictures a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cachedit_yaml.runtime.stats import BranchStats
from tests.engines import checkpoints
from tests.engines.engine import Engine, running

pytestmark = pytest.mark.engines

WARM_UP = 2


def generated(engine: Engine, **config: Any) -> BranchStats:
    """What the first list did for four pictures, with a config of the engine's."""
    given = {"max_warmup_steps": WARM_UP, "residual_diff_threshold": 0.99, **config}
    with engine.cached(given):
        engine.generate(num_outputs_per_prompt=4)
        found: BranchStats = engine.handle.stats().branches[0]
        return found


def test_per_sample_worst_and_mean(tmp_path: Path) -> None:
    with running("flux", checkpoints.build("flux", tmp_path)) as engine:
        default, each = generated(engine), generated(engine, batch="per_sample")
        assert default == each
        mean = generated(engine, batch="mean").residual_diffs[WARM_UP]
        *lower, largest = sorted(item.residual_diffs[WARM_UP] for item in each.samples)
        assert len(lower) == 3
        assert lower[0] < mean < largest
        # One sample is above this, and the mean of all is not.
        threshold = (largest + max(mean, lower[-1])) / 2
        found = {
            batch: generated(engine, batch=batch, residual_diff_threshold=threshold)
            for batch in ("per_sample", "worst", "mean")
        }
    assert found["per_sample"].partly_cached[WARM_UP] == 0.75
    assert WARM_UP not in (*found["worst"].cached_steps, *found["worst"].partly_cached)
    assert not found["worst"].partly_cached
    assert found["mean"].cached_steps[0] == WARM_UP
    assert not found["mean"].samples
