"""The demo's two models: where each is, how it is called, and its adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_HERE: Final = Path(__file__).parent


@dataclass(frozen=True)
class Model:
    """One of them.

    Attributes:
        name: for the command line.
        title: for people.
        folder: the diffusers pipeline.
        adapter: the one for every model of its kind, with profiles tuned to it.
        arguments: makes the arguments of a call out of the pipeline and labels.
    """

    name: str
    title: str
    folder: Path
    adapter: Path
    arguments: Callable[[Any, Sequence[str]], dict[str, Any]]

    def load(self) -> Any:
        """The pipeline in float32 on the CPU."""
        from cachedit_yaml.generating.loading import load_pipeline

        return load_pipeline(self.folder, "cpu", "float32")

    def call(self, pipeline: Any, labels: Sequence[str]) -> dict[str, Any]:
        """The arguments of a call that draws a picture for each label, without steps and seeds."""
        return {**self.arguments(pipeline, labels), "output_type": "pil"}


def _classes(pipeline: Any, labels: Sequence[str]) -> dict[str, Any]:
    known = pipeline.labels
    return {"class_labels": [known[label] for label in labels], "guidance_scale": 3.0}


def _words(pipeline: Any, labels: Sequence[str]) -> dict[str, Any]:
    """Guidance runs the transformer a second time, with no words."""
    from cachedit_yaml.generating.demo.captions import LENGTH
    from cachedit_yaml.generating.demo.data import IMAGE_SIZE

    return {
        "prompt": [f"a {label}" for label in labels],
        "negative_prompt": [""] * len(labels),
        "true_cfg_scale": 2.5,
        "height": IMAGE_SIZE,
        "width": IMAGE_SIZE,
        "max_sequence_length": LENGTH,
    }


DIT: Final = Model("dit", "DiT", _HERE / "model", _HERE / "dit-demo.yaml", _classes)
FLUX: Final = Model("flux", "FLUX in small", _HERE / "model_flux", _HERE / "flux-demo.yaml", _words)
MODELS: Final = {model.name: model for model in (DIT, FLUX)}
