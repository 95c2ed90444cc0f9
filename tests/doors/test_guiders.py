"""The guiders of Modular diffusers: each prediction is a branch, by the name that it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, guiders
from diffusers.hooks import LayerSkipConfig, SmoothedEnergyGuidanceConfig

from cachedit_yaml import enable
from tests.runtime.models import ALWAYS, NEVER
from tests.tiny import build

STEPS = 10
MASK = [1, 1, 1, 0, 0, 1, 0, 0, 0, 1]
CACHED = (3, 4, 6, 7, 8)


def skipped() -> Any:
    return LayerSkipConfig(indices=[1], fqn="blocks")


#: Each guider, and the steps that its predictions serve from the cache under the mask.
GUIDERS: dict[str, tuple[Callable[[], Any], dict[str, tuple[int, ...]]]] = {
    "classifier-free": (
        lambda: guiders.ClassifierFreeGuidance(guidance_scale=3.0),
        {"pred_cond": CACHED, "pred_uncond": CACHED},
    ),
    # From step 3 to 7: its first forward is computed, though the mask has step 3 cached.
    "classifier-free on an interval": (
        lambda: guiders.ClassifierFreeGuidance(guidance_scale=3.0, start=0.3, stop=0.8),
        {"pred_cond": CACHED, "pred_uncond": (4, 6, 7)},
    ),
    "skip-layer": (
        lambda: guiders.SkipLayerGuidance(
            guidance_scale=3.0, skip_layer_guidance_scale=2.0, skip_layer_guidance_start=0.2,
            skip_layer_guidance_stop=0.7, skip_layer_config=skipped(),
        ),
        {"pred_cond": CACHED, "pred_uncond": CACHED, "pred_cond_skip": (4, 6)},
    ),
    "adaptive projected": (
        lambda: guiders.AdaptiveProjectedGuidance(guidance_scale=3.0),
        {"pred_cond": CACHED, "pred_uncond": CACHED},
    ),
    "adaptive projected mix": (
        lambda: guiders.AdaptiveProjectedMixGuidance(guidance_scale=3.0),
        {"pred_cond": CACHED, "pred_uncond": CACHED},
    ),
    "zero star": (
        lambda: guiders.ClassifierFreeZeroStarGuidance(guidance_scale=3.0),
        {"pred_cond": CACHED, "pred_uncond": CACHED},
    ),
    "smoothed energy": (
        lambda: guiders.SmoothedEnergyGuidance(
            guidance_scale=3.0, seg_guidance_start=0.2, seg_guidance_stop=0.7,
            seg_guidance_config=SmoothedEnergyGuidanceConfig(indices=[1], fqn="blocks"),
        ),
        {"pred_cond": CACHED, "pred_uncond": CACHED, "pred_cond_seg": (4, 6)},
    ),
    "tangential": (
        lambda: guiders.TangentialClassifierFreeGuidance(guidance_scale=3.0),
        {"pred_cond": CACHED, "pred_uncond": CACHED},
    ),
    "auto": (
        lambda: guiders.AutoGuidance(guidance_scale=3.0, auto_guidance_config=skipped()),
        {"pred_cond": CACHED, "pred_uncond": CACHED},
    ),
}  # fmt: skip


class Pipeline:
    """The denoising loop of a Modular pipeline, without what lies around it."""

    def __init__(self, guider: Any) -> None:
        self.transformer = build("WanPipeline").transformer
        self.scheduler = FlowMatchEulerDiscreteScheduler()
        self.guider = guider

    @torch.no_grad()
    def __call__(self) -> torch.Tensor:
        make = torch.Generator().manual_seed(0)
        config = self.transformer.config
        texts = [torch.randn(1, 7, config.text_dim, generator=make) for _ in range(2)]
        latents = torch.randn(1, config.in_channels, 1, 8, 8, generator=make)
        self.scheduler.set_timesteps(STEPS)
        for step, timestep in enumerate(self.scheduler.timesteps):
            self.guider.set_state(step=step, num_inference_steps=STEPS, timestep=timestep)
            batches = self.guider.prepare_inputs({"encoder_hidden_states": tuple(texts)})
            for batch in batches:
                self.guider.prepare_models(self.transformer)
                batch.noise_pred = self.transformer(
                    hidden_states=latents,
                    timestep=timestep.expand(1),
                    encoder_hidden_states=batch.encoder_hidden_states,
                    return_dict=False,
                )[0]
                self.guider.cleanup_models(self.transformer)
            update = self.guider(batches)[0]
            latents = self.scheduler.step(update, timestep, latents, return_dict=False)[0]
        return latents


@pytest.mark.parametrize("name", GUIDERS)
def test_guiders(name: str) -> None:
    make, cached = GUIDERS[name]
    pipe = Pipeline(make())
    plain = pipe()
    with enable(pipe, "wan", cache_config=NEVER):
        assert torch.equal(pipe(), plain)
    mask = {"scm": {"mask": MASK, "policy": "static"}}
    with enable(pipe, "wan", cache_config={**ALWAYS, **mask}) as handle:
        pipe()
        assert {row.branch: row.cached_steps for row in handle.stats().branches} == cached
        assert not handle.stats().warnings
    assert torch.equal(pipe(), plain)
