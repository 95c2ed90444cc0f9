"""The pipelines that the zoo runs: those of ``tests.tiny``, and those that only adapters name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import diffusers
import torch
from diffusers import DiffusionPipeline

import cachedit_yaml
from tests import tiny
from tests.tiny import factory

_FLUX = factory.PIPELINES["FluxFillPipeline"]
_WAN = factory.PIPELINES["WanVideoToVideoPipeline"]

# Two rows of two pictures, of which the last is to be made; two rows make the prompts of a batch.
_CLOZE: dict[str, Any] = {
    "components": {
        **_FLUX["components"],
        "transformer": {
            "part": "FluxTransformer2DModel",
            # 16 channels of latents and of the given pictures, and 16 of the mask.
            "config": {"in_channels": 48, "out_channels": 16},
        },
    },
    "config": {"resolution": 16},
    "inputs": {
        "task_prompt": "",
        "content_prompt": "",
        "image": {
            "items": [
                {"items": [{"pil": [16, 16]}, {"pil": [16, 16]}]},
                {"items": [{"pil": [16, 16]}, None]},
            ]
        },
        "generator": {"generator": 0},
    },
}
EXTRA: dict[str, dict[str, Any]] = {
    "VisualClozeGenerationPipeline": _CLOZE,
    # One more generation, from an image, makes the result larger.
    "VisualClozePipeline": {
        **_CLOZE,
        "inputs": {
            **_CLOZE["inputs"],
            "upsampling_height": 16,
            "upsampling_width": 16,
            "upsampling_strength": 0.75,
        },
        "cases": {"without_upsampling": {"upsampling_strength": 0}},
    },
    "LucyEditPipeline": {
        "components": {
            **_WAN["components"],
            "transformer": {"part": "WanTransformer3DModel", "config": {"in_channels": 8}},
        },
        "config": {"expand_timesteps": True},
        "inputs": {
            **{name: value for name, value in _WAN["inputs"].items() if name != "strength"},
            "num_frames": 9,
        },
        "cases": {"guided": _WAN["cases"]["guided"]},
    },
}
"""Entries in the form of ``tests.tiny``."""


def _tables() -> AbstractContextManager[Any]:
    """The tables of ``tests.tiny`` with the extra entries, for as long as one call takes."""
    new = {name: entry for name, entry in EXTRA.items() if name not in factory.PIPELINES}
    return mock.patch.dict(factory.PIPELINES, new)


@dataclass(frozen=True)
class Subject:
    """One call of one small pipeline."""

    adapter: str
    pipeline: str
    variant: str | None
    case: str

    def __str__(self) -> str:
        parts = (self.pipeline.removesuffix("Pipeline"), self.variant, self.case)
        return "-".join(part for part in parts if part)

    def build(self) -> DiffusionPipeline:
        """The pipeline."""
        with _tables():
            pipe = tiny.build(self.pipeline, **({self.variant: True} if self.variant else {}))
        for name in ("generation_pipe", "upsampling_pipe"):
            if (part := getattr(pipe, name, None)) is not None:
                part.set_progress_bar_config(disable=True)
                part.encode_prompt = _encode_prompt
        if self.pipeline == "VisualClozeGenerationPipeline":
            pipe.encode_prompt = _encode_prompt
        return pipe

    def run(self, pipe: DiffusionPipeline, steps: int = 4) -> torch.Tensor:
        """Its output."""
        with _tables():
            return tiny.run(pipe, self.case, steps=steps)


def _encode_prompt(*_: Any, **__: Any) -> tuple[torch.Tensor, ...]:
    """Embeddings, for pipelines that take none."""
    noise = torch.Generator().manual_seed(1)
    embeds = torch.randn(1, 7, 32, generator=noise)
    return embeds, torch.randn(1, 24, generator=noise), torch.zeros(7, 3)


def _subjects() -> Iterator[Subject]:
    with _tables():
        for adapter, name in DECLARED:
            if name not in factory.PIPELINES or not hasattr(diffusers, name):
                continue
            for variant in (None, *tiny.variants(name)):
                for case in tiny.cases(name, *((variant,) if variant else ())):
                    yield Subject(adapter, name, variant, case)


SHIPPED = [
    entry
    for entry in cachedit_yaml.list_adapters()
    if entry.kind == "shipped" and entry.engine in (None, "diffusers")
]
"""Every adapter of the project, but those for the pipelines of another engine."""

DECLARED = [(entry.name, name) for entry in SHIPPED for name in entry.data.get("pipelines", ())]
"""Adapter and pipeline class, for every class that an adapter names."""

SUBJECTS = list(_subjects())
"""Everything that can be run here."""
