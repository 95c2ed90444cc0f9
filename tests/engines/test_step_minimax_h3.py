"""Step execution of MiniMax-H3, without what its checkpoint brings as Python: its autoencoders.

The rest is the engine's: how it packs a request, its step, its scheduler, its transformer. Random
numbers are in the place of what its text encoder would say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from vllm_omni.diffusion.data import DiffusionOutput
from vllm_omni.diffusion.models.minimax_h3 import pipeline_minimax_h3 as h3

import cachedit_yaml
from cachedit_yaml.engines.vllm_omni import probe
from cachedit_yaml.probe.recipe import recipes
from tests.engines.steps import Ask, Result, run, same
from tests.engines.test_step_models import cached

pytestmark = pytest.mark.engines

WORDS = 12
ASKS = {
    "one": Ask("a red cat"),
    "two": Ask("a blue dog in the rain", 1, sampling={"seed": 1}),
    "longer": Ask("a bird", 2, sampling={"num_inference_steps": 12}),
}


class Bare(h3.MiniMaxH3Pipeline):  # type: ignore[misc]
    """The engine's pipeline around a transformer."""

    def __init__(self, transformer: torch.nn.Module) -> None:
        torch.nn.Module.__init__(self)
        self.transformer = transformer
        self.device = torch.device("cpu")

    def _transformer_for_task(self, task: str) -> torch.nn.Module:
        return self.transformer

    def _prepare_request_inputs(self, prompt: str, sampling: Any) -> dict[str, Any]:
        count = len(prompt.split())
        generator = torch.Generator().manual_seed(len(prompt))
        return {
            **dict.fromkeys(h3._MINIMAX_H3_DENOISE_INPUT_KEYS),
            "task": "t2va",
            "text_embeddings": torch.randn(count, WORDS, generator=generator),
            "text_tags": torch.ones(count, dtype=torch.long),
            "seed": sampling.seed,
            "num_steps": sampling.num_inference_steps,
            "latent_t": 2,
            "latent_h": 4,
            "latent_w": 4,
            "audio_t": 2,
            "num_frames": 5,
            "video_shift": 12.0,
            "audio_shift": 3.0,
            "height": 64,
            "width": 64,
        }

    def post_decode(self, state: Any, **kwargs: Any) -> Any:
        return DiffusionOutput(output=(state.latents, state.extra[h3._STEP_AUDIO_ROWS]))


@pytest.fixture
def runner() -> Iterator[Any]:
    (spec,) = (
        entry.with_probe("vllm_omni")
        for entry in cachedit_yaml.list_adapters()
        if entry.kind == "shipped" and entry.name == "minimax-h3"
    )
    recipe = next(item for item in recipes(spec) if not item.pipeline)
    # As many channels as the pipeline's rows have.
    part = recipe.parts["transformer"]
    part = dataclasses.replace(
        part, config={**part.config, "latents_dim": 24, "audio_latents_dim": 32}
    )
    built = probe.build(spec, dataclasses.replace(recipe, parts={"transformer": part}))
    found = built._worker.model_runner
    found.pipeline = Bare(built.target)
    found.od_config.step_execution = True
    yield found
    probe.close()


def test_each_request_is_as_if_it_were_alone(runner: Any) -> None:
    def alone() -> dict[str, Result]:
        return {name: run(runner, {name: ask})[name] for name, ask in ASKS.items()}

    plain = alone()
    with cached(runner, residual_diff_threshold=0.0, max_warmup_steps=1):
        for name, result in run(runner, ASKS).items():
            assert same(result.output, plain[name].output), name
    with cached(runner, scm={"preset": "fast", "policy": "static"}, max_warmup_steps=1):
        lonely = alone()
        for name, result in run(runner, ASKS).items():
            assert max(result.waves) == 3
            assert same(result.output, lonely[name].output), name
            assert not same(result.output, plain[name].output), name
            assert [stats.ended for stats in result.stats] == ["finished"]
            assert result.stats[0].hit_ratio > 0
        high = Ask("a cow", sampling={"quality": "high"})
        found = run(runner, {"one": ASKS["one"], "high": high})
        assert "does not support the high-quality Cache-DiT profile" in str(found["high"].error)
        assert same(found["one"].output, lonely["one"].output)
