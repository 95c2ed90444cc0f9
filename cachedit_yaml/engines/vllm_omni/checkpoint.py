"""The components of a recipe as a folder that an engine loads.

Transformers are only their configs, because their weights are random numbers by their own
parameters' names. Everything else is saved with its weights; so is a transformer with a folder and
a class by its whole path, for pipelines that load it by ``from_pretrained``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from cachedit_yaml.engines.vllm_omni.inside import is_inside
from cachedit_yaml.language.probe_spec import Part
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.classes import ProbeError
from cachedit_yaml.probe.parts import build_part
from cachedit_yaml.probe.pipelines import STEPS, quiet
from cachedit_yaml.probe.recipe import Recipe
from cachedit_yaml.probe.values import Maker


def write_checkpoint(
    folder: Path, spec: AdapterSpec, recipe: Recipe, name: str, seed: int = 0
) -> None:
    """Write a recipe's components as a folder that the engine loads.

    Args:
        folder: where to; it exists and is empty.
        spec: the adapter, which says what is a transformer.
        recipe: what to write.
        name: of the pipeline, in the engine's registry.
        seed: of the random weights.

    Raises:
        ProbeError: a component cannot be made or saved.
    """
    index: dict[str, Any] = {"_class_name": name, "_diffusers_version": "0.40.0"}
    index |= {key: value for key, value in recipe.config.items() if key not in config_fields()}
    for path, part in recipe.parts.items():
        own = path in spec.transformers
        if part is None or (is_inside(part) and not own):
            continue
        place = folder / (part.folder or path)
        if own and ("." not in (part.part or "") or is_inside(part)):
            cls = _write_config(place, part)
        else:
            with quiet():
                made = build_part(part, path, seed=f"{seed}/{path}")
            cls = _save(made, place, path, part.prefix or "")
        index.setdefault(path, ["diffusers", cls])
    for file, content in recipe.files.items():
        place = folder / file
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.suffix == ".safetensors":
            save_file(Maker({}, STEPS).make(content, (file,)), place)
        else:
            place.write_text(json.dumps(content), encoding="utf-8")
    if not (folder / "config.json").exists():
        (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")


def _write_config(place: Path, part: Part) -> str:
    """Write a transformer's config; return the name of its class."""
    place.mkdir(parents=True, exist_ok=True)
    name = (part.part or "").rsplit(".", 1)[-1]
    config = {"_class_name": name, **(part.config or {}), **(part.extra or {})}
    (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return name


def _save(made: Any, place: Path, where: str, prefix: str) -> str:
    """Save a component with its weights; return the name of its class."""
    if place.suffix == ".safetensors":
        weights = {prefix + name: value.contiguous() for name, value in made.state_dict().items()}
        save_file(weights, place)
        return type(made).__name__
    if not hasattr(made, "save_pretrained"):
        raise ProbeError(f"parts.{where}: a {type(made).__name__} cannot be saved for the engine")
    with quiet():
        made.save_pretrained(place)
    return type(made).__name__


def config_fields() -> frozenset[str]:
    """The fields of the engine's own config; a probe's `config` may name them."""
    import dataclasses

    from vllm_omni.diffusion.data import OmniDiffusionConfig

    return frozenset(item.name for item in dataclasses.fields(OmniDiffusionConfig))
