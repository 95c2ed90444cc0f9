"""Small checkpoints of the models that vLLM-Omni knows, made here and never downloaded.

They are those of the adapters' probes. The engine itself loads them here, in processes of its own
too, so their transformers have weights in files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

import cachedit_yaml
from cachedit_yaml.engines.vllm_omni.probe import write_checkpoint
from cachedit_yaml.language.probe_spec import Part
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe import recipe as recipes
from cachedit_yaml.probe.parts import build_part


class Model(NamedTuple):
    """Where a checkpoint is described.

    Attributes:
        adapter: whose probe it is.
        pipeline: the pipeline's class.
        registered: its name in the engine's registry.
        variant: the make.
    """

    adapter: str
    pipeline: str
    registered: str
    variant: str | None = None


MODELS = {
    "flux": Model("flux", "FluxPipeline", "FluxPipeline"),
    "qwen_image": Model("qwen-image", "QwenImagePipeline", "QwenImagePipeline"),
    "sd3": Model("stable-diffusion-3", "StableDiffusion3Pipeline", "StableDiffusion3Pipeline"),
    "longcat_image": Model("longcat-image", "LongCatImagePipeline", "LongCatImagePipeline"),
    "wan": Model("wan", "Wan22Pipeline", "WanPipeline"),
    # A transformer for the noisy steps and one for the others.
    "wan_two": Model("wan", "Wan22Pipeline", "WanPipeline", "two"),
    "z_image": Model("z-image", "ZImagePipeline", "ZImagePipeline"),
    "bagel": Model("bagel", "BagelPipeline", "BagelPipeline"),
}
"""Every checkpoint by name."""


def index(folder: Path, pipeline: str) -> None:
    """Write the file that names the pipeline's class."""
    text = json.dumps({"_class_name": pipeline, "_diffusers_version": "0.40.0"})
    (folder / "model_index.json").write_text(text, encoding="utf-8")


def described(name: str) -> tuple[AdapterSpec, recipes.Recipe]:
    """The adapter of a model, and what its probe says of the checkpoint."""
    model = MODELS[name]
    (spec,) = (
        entry.with_probe("vllm_omni")
        for entry in cachedit_yaml.list_adapters()
        if entry.kind == "shipped" and entry.name == model.adapter
    )
    return spec, recipes.recipe(spec, model.pipeline, model.variant)


def build(name: str, folder: Path) -> Path:
    """Make a checkpoint, unless it is there already."""
    place = folder / name
    if not (place / ".complete").exists():
        place.mkdir(parents=True, exist_ok=True)
        spec, recipe = described(name)
        write_checkpoint(place, spec, recipe, MODELS[name].registered)
        for path in spec.transformers:
            part = recipe.parts.get(path)
            if part is not None:
                _save(part, place / path)
        if name == "bagel":
            _bagel(place)
        (place / ".complete").touch()
    return place


def _save(part: Part, place: Path) -> None:
    """Save a transformer by its class in diffusers, which has the same name as the engine's."""
    cls = (part.part or "").rsplit(".", 1)[-1]
    build_part(Part(part=cls, config=part.config), place.name).save_pretrained(place)


def _bagel(place: Path) -> None:
    """Room for the engine's first picture, and a file of weights; the tests fill in their own."""
    from safetensors.torch import save_file

    file = place / "config.json"
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**config, "max_latent_size": 64}), encoding="utf-8")
    save_file({"nothing": torch.zeros(1)}, place / "ema.safetensors")
