"""The components of a recipe as a folder that an engine loads.

Transformers are only their configs, because their weights are random numbers by their own
parameters' names. Everything else is saved with its weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cachedit_yaml.language.probe_spec import Part
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.classes import ProbeError
from cachedit_yaml.probe.parts import build_part
from cachedit_yaml.probe.pipelines import quiet
from cachedit_yaml.probe.recipe import Recipe


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
        if part is None:
            continue
        place = folder / path
        if path in spec.transformers:
            _write_config(place, part)
        else:
            with quiet():
                _save(build_part(part, path, seed=f"{seed}/{path}"), place, path)
        index.setdefault(path, ["diffusers", (part.part or "").rsplit(".", 1)[-1]])
    for file, content in recipe.files.items():
        place = folder / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(content), encoding="utf-8")
    if not (folder / "config.json").exists():
        (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")


def _write_config(place: Path, part: Part) -> None:
    place.mkdir(parents=True)
    name = (part.part or "").rsplit(".", 1)[-1]
    config = {"_class_name": name, **(part.config or {}), **(part.extra or {})}
    (place / "config.json").write_text(json.dumps(config), encoding="utf-8")


def _save(made: Any, place: Path, where: str) -> None:
    if not hasattr(made, "save_pretrained"):
        raise ProbeError(f"parts.{where}: a {type(made).__name__} cannot be saved for the engine")
    made.save_pretrained(place)


def config_fields() -> frozenset[str]:
    """The fields of the engine's own config; a probe's `config` may name them."""
    import dataclasses

    from vllm_omni.diffusion.data import OmniDiffusionConfig

    return frozenset(item.name for item in dataclasses.fields(OmniDiffusionConfig))
