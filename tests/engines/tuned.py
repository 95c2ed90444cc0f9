"""A file that `tune` wrote, for the engines to use: profiles of a small FLUX.1 of diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cachedit_yaml
from cachedit_yaml.compiler.settings import Resolved
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.pipelines import quiet
from cachedit_yaml.runtime.masks import build_mask
from tests import tiny

STEPS = 8


def write(folder: Path) -> Path:
    """Tune twice into one file, which extends the shipped adapter.

    Returns:
        The file. Its profile `half` is a mask with F = 0, `steady` decides by differences.
    """
    pipe = tiny.build("FluxPipeline")
    call = {**tiny.cases("FluxPipeline")["plain"](pipe), "output_type": "latent"}
    call = {key: value for key, value in call.items() if key != "generator"}
    calls = [{**call, "num_inference_steps": STEPS, "guidance_scale": x} for x in (2.0, 4.0)]
    path = folder / "my-flux.yaml"
    for target, masks in (("half:blocks=0.5", True), ("steady:blocks=0.7", False)):
        with quiet():
            found = cachedit_yaml.tune(pipe, calls, [target], masks=masks, budget=3)
        assert found.profiles, found
        found.write(path)
    return path


def settings(path: Path, profile: str) -> dict[str, Any]:
    """What a profile of the file sets."""
    spec: AdapterSpec = cachedit_yaml.load_adapter(path)
    assert spec.profiles is not None
    assert spec.profiles[profile].measured is not None
    return {key: value for key, value in spec.profiles[profile].given() if key != "measured"}


def skipped(resolved: Resolved) -> tuple[int, ...]:
    """The steps that a mask serves from the cache."""
    mask = build_mask(resolved.scm, STEPS, "here")
    assert mask is not None
    return tuple(step for step, flag in enumerate(mask) if not flag)
