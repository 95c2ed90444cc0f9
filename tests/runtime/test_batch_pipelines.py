"""Pipelines of diffusers with several prompts in a batch: each gets what it gets alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

import cachedit_yaml
from cachedit_yaml.probe.pipelines import quiet, tensor_of
from cachedit_yaml.runtime.stats import Stats
from tests import tiny

STEPS = 8
SETTINGS: dict[str, Any] = {
    "Fn_compute_blocks": 1,
    "Bn_compute_blocks": 0,
    "max_warmup_steps": 2,
    "max_continuous_cached_steps": 2,
}


def arguments(pipe: Any, name: str, case: str, samples: Sequence[int]) -> dict[str, Any]:
    """The arguments of a call with some prompts, each with random numbers of its own."""
    found = tiny.cases(name)[case](pipe)
    for key, value in found.items():
        if isinstance(value, torch.Tensor) and value.ndim > 1 and len(value) == 1:
            rows = [value if not value.is_floating_point() else value.roll(n, -1) for n in samples]
            found[key] = torch.cat(rows)
        elif key == "class_labels":
            found[key] = [value[0] + n for n in samples]
        elif key in ("prompt", "negative_prompt"):
            found[key] = [" ".join([value, *["dog"] * n]) for n in samples]
    found["generator"] = [torch.Generator().manual_seed(n) for n in samples]
    found["num_inference_steps"] = STEPS
    return found


@torch.no_grad()
def run(pipe: Any, name: str, case: str, samples: Sequence[int], **settings: Any) -> Any:
    """The output ``[b x ...]`` and what was done for it."""
    given = arguments(pipe, name, case, samples)
    with cachedit_yaml.enable(pipe, cache_config={**SETTINGS, **settings}) as handle, quiet():
        output = tensor_of(pipe(**given))
        return output, handle.stats()


def middle(stats: Stats) -> float:
    """A threshold that some of the differences are below, and none is near."""
    each = sorted(
        value
        for row in stats.branches
        for sample in row.samples
        for value in sample.residual_diffs.values()
        if 0 < value < 1
    )
    near = each[len(each) // 3 : -len(each) // 3]
    gap = max(range(len(near) - 1), key=lambda place: near[place + 1] - near[place])
    return (near[gap] + near[gap + 1]) / 2


@pytest.mark.parametrize(
    ("name", "case", "calibrator"),
    [
        ("FluxPipeline", "plain", "taylorseer"),
        ("StableDiffusion3Pipeline", "plain", None),
        ("WanPipeline", "plain", "taylorseer"),
        ("DiTPipeline", "plain", "foca"),
        ("QwenImagePipeline", "plain", None),
        ("StableDiffusionXLPipeline", "plain", None),
    ],
)
def test_each_prompt_gets_what_it_gets_alone(name: str, case: str, calibrator: str | None) -> None:
    pipe = tiny.build(name)
    samples = [0, 1, 2]
    _, seen = run(pipe, name, case, samples, residual_diff_threshold=1e-9)
    settings = {"residual_diff_threshold": middle(seen), "calibrator": calibrator}
    output, together = run(pipe, name, case, samples, **settings)
    assert not any(row.together for row in together.branches), together.warnings
    for place, sample in enumerate(samples):
        alone, own = run(pipe, name, case, [sample], **settings)
        torch.testing.assert_close(output[place], alone[0], rtol=1e-3, atol=1e-4)
        for row, single in zip(together.branches, own.branches, strict=True):
            assert len(row.samples) == len(samples), (row.branch, len(row.samples))
            assert row.samples[place].cached_steps == single.cached_steps
    assert any(row.partly_cached for row in together.branches)
