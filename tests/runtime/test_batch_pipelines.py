"""Pipelines of diffusers with several prompts in a batch: each gets what it gets alone."""

from __future__ import annotations

import itertools
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


def between(stats: Stats) -> float:
    """A threshold between the differences of two samples in one step: the first, if it can be."""
    found: list[tuple[bool, float, float]] = []
    for row in stats.branches:
        for step in row.residual_diffs if row.follows is None else ():
            each = sorted(sample.residual_diffs[step] for sample in row.samples)
            first = step == min(row.residual_diffs)
            pairs = [pair for pair in itertools.pairwise(each) if 0 < sum(pair) < 2]
            found += [(first, high / low, (low + high) / 2) for low, high in pairs]
    return max(found)[2]


@pytest.mark.parametrize(
    ("name", "case", "calibrator"),
    [
        ("FluxPipeline", "plain", "taylorseer"),
        ("StableDiffusion3Pipeline", "plain", None),
        ("WanPipeline", "plain", "taylorseer"),
        ("QwenImagePipeline", "plain", None),
        ("StableDiffusionXLPipeline", "plain", None),
    ],
)
def test_each_prompt_gets_what_it_gets_alone(name: str, case: str, calibrator: str | None) -> None:
    pipe = tiny.build(name)
    samples = [0, 1, 2]
    _, seen = run(pipe, name, case, samples, residual_diff_threshold=1e-9)
    settings = {"residual_diff_threshold": between(seen), "calibrator": calibrator}
    output, together = run(pipe, name, case, samples, **settings)
    assert not any(row.together for row in together.branches), together.warnings
    for place, sample in enumerate(samples):
        alone, own = run(pipe, name, case, [sample], **settings)
        error = (output[place].double() - alone[0].double()).abs().mean()
        assert error < 1e-3 * alone[0].double().abs().mean(), sample
        for row, single in zip(together.branches, own.branches, strict=True):
            assert len(row.samples) == len(samples), (row.branch, len(row.samples))
            assert row.samples[place].cached_steps == single.cached_steps
    assert any(row.partly_cached for row in together.branches)
