"""Requests that end before their last step."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engines import checkpoints
from tests.engines.engine import running

pytestmark = pytest.mark.engines

CONFIG = {"residual_diff_threshold": 0.9, "max_warmup_steps": 1}


@pytest.mark.parametrize("error", ["RuntimeError", "DiffusionRequestAbortedError"])
def test_what_ends_between_two_forwards_keeps_no_buffer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    """FLUX.1: its loop has no progress bar that would tell."""
    from vllm_omni.diffusion import data

    kind = getattr(data, error, RuntimeError)
    steps: list[int] = []
    with running("flux", checkpoints.build("flux", tmp_path)) as engine, engine.cached(CONFIG):
        pipeline = engine.pipeline

        def cached() -> list[torch.Size]:
            """The shapes of what the blocks hand on, wherever they are held."""
            gc.collect()
            tensors = [x for x in gc.get_objects() if issubclass(type(x), torch.Tensor)]
            width = pipeline.transformer.inner_dim
            return sorted(x.shape for x in tensors if x.ndim == 3 and x.shape[-1] == width)

        engine.generate()
        wanted, before = engine.latents[0], cached()
        step, forward = pipeline.scheduler_step_maybe_with_cfg, pipeline.forward

        def third(*args: Any, **kwargs: Any) -> Any:
            steps.append(1)
            if len(steps) == 3:
                assert len(cached()) > len(before)
                raise kind("over")
            return step(*args, **kwargs)

        def twice(request: Any) -> Any:
            with monkeypatch.context() as patch:
                patch.setattr(pipeline, "scheduler_step_maybe_with_cfg", third)
                with pytest.raises(kind, match="over"):
                    forward(request)
            assert cached() == before
            assert engine.handle.stats().ended == "its call raised"
            for sampling in request.sampling_params_list:
                sampling.generator.manual_seed(sampling.seed)
            return forward(request)

        monkeypatch.setattr(pipeline, "forward", twice)
        engine.generate()
        monkeypatch.undo()
        assert torch.equal(engine.latents[-1], wanted)
