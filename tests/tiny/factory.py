"""The interface of the package: pipelines, their inputs and their small transformers."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline, ModelMixin

from . import common, dit, flux, flux2, longcat, pixart, qwen, qwen21, sd3, wan, zimage

FAMILIES = (dit, pixart, flux, flux2, sd3, qwen, qwen21, zimage, longcat, wan)

PARTS: dict[str, dict[str, Any]] = {}
PIPELINES: dict[str, dict[str, Any]] = {}
FORWARD: dict[str, dict[str, Any]] = {}
NOT_BUILT: dict[str, str] = {
    "FluxPriorReduxPipeline": "makes embeddings from images; it has no denoiser",
    "LongCatAudioDiTPipeline": "makes audio; not one of the image and video families",
    "Flux3ModularPipeline": "a modular pipeline; diffusers has no ordinary one of this model",
    "WanAnimate2ModularPipeline": "a modular pipeline; diffusers has no ordinary one of this model",
}
"""Pipeline classes of these families that this package does not build, with the reason."""

for _family in FAMILIES:
    for _table, _whole in (
        ("PARTS", PARTS),
        ("PIPELINES", PIPELINES),
        ("FORWARD", FORWARD),
        ("NOT_BUILT", NOT_BUILT),
    ):
        _new = getattr(_family, _table, {})
        if clash := sorted(k for k in _new if k in _whole and _new[k] != _whole[k]):
            raise ValueError(f"{_family.__name__}: {_table} defined twice: {clash}")
        _whole.update(_new)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let pass what diffusers itself deprecates or does in a deprecated way."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category, module=r"diffusers\.")
        yield


def names() -> list[str]:
    """Every pipeline class that the tables describe and the installed diffusers has."""
    return [name for name in PIPELINES if hasattr(diffusers, name)]


def transformers() -> list[str]:
    """Every transformer class with a small config that the installed diffusers has."""
    return [n for n in PARTS if n in FORWARD and hasattr(diffusers, n)]


def variants(pipeline_class: str) -> list[str]:
    """Names of the alternatives to the default components (``build(..., name=True)``)."""
    return list(PIPELINES[pipeline_class].get("variants", {}))


def transformer(class_name: str, *, seed: int = 0, **overrides: Any) -> ModelMixin:
    """The small transformer alone; ``overrides`` replace fields of its config."""
    with _quiet():
        return common.component(PARTS, class_name, seed=f"{seed}/transformer", **overrides)


def build(pipeline_class: str, *, seed: int = 0, **overrides: Any) -> DiffusionPipeline:
    """A small pipeline of that class.

    ``overrides`` are: the name of a variant with True; a component's name with a dictionary of
    config fields to replace, or with an object to use as it is (None included); or an argument of
    the pipeline's own constructor (``boundary_ratio=0.5``).
    """
    entry = PIPELINES[pipeline_class]
    components = dict(entry["components"])
    config = dict(entry.get("config", {}))
    chosen = tuple(name for name in variants(pipeline_class) if overrides.pop(name, False))
    for name in chosen:
        components |= entry["variants"][name].get("components", {})
        config |= entry["variants"][name].get("config", {})
    made: dict[str, Any] = {}
    for name, spec in components.items():
        changes = overrides.pop(name, {})
        if not isinstance(changes, dict):
            made[name] = changes
        elif spec is not None:
            with _quiet():
                made[name] = common.component(PARTS, spec, seed=f"{seed}/{name}", **changes)
        else:
            made[name] = None
    cls = getattr(diffusers, pipeline_class)
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        # Text encoders, tokenizers and the like that the table leaves out are absent.
        if name != "self" and parameter.default is inspect.Parameter.empty:
            made.setdefault(name, None)
    with _quiet():
        pipe = cls(**{**made, **config, **overrides})
    pipe.set_progress_bar_config(disable=True)
    for name, value in entry.get("attributes", {}).items():
        setattr(pipe, name, value)
    pipe.tiny_variants = chosen
    return pipe


def cases(
    pipeline_class: str, *chosen: str
) -> dict[str, Callable[[DiffusionPipeline], dict[str, Any]]]:
    """Name of case -> function of the pipeline that returns fresh arguments for its call.

    ``chosen`` names the variants, which may have more cases, or fewer, than the class's default.
    """
    entry = PIPELINES[pipeline_class]
    table: dict[str, dict[str, Any]] = {"plain": {}, **entry.get("cases", {})}
    for name in chosen:
        variant = entry["variants"][name]
        table |= variant.get("cases", {})
        for case in variant.get("without", []):
            table.pop(case)

    def maker(changes: dict[str, Any]) -> Callable[[DiffusionPipeline], dict[str, Any]]:
        def make(pipe: DiffusionPipeline) -> dict[str, Any]:
            specs = dict(entry["inputs"])
            for name in getattr(pipe, "tiny_variants", chosen):
                specs |= entry["variants"][name].get("inputs", {})
            specs |= changes
            model = getattr(pipe, "transformer", None) or getattr(pipe, "transformer_2", None)
            config = dict(model.config)
            return {k: common.resolve(v, config, (k,)) for k, v in specs.items()}

        return make

    return {name: maker(changes) for name, changes in table.items()}


@torch.no_grad()
def run(
    pipe: DiffusionPipeline, case_name: str = "plain", steps: int = 4, **extra: Any
) -> torch.Tensor:
    """Call the pipeline with the inputs of a case and return its one tensor.

    ``extra`` arguments replace those of the case.
    """
    pipeline_class = next(c.__name__ for c in type(pipe).__mro__ if c.__name__ in PIPELINES)
    make = cases(pipeline_class, *getattr(pipe, "tiny_variants", ()))[case_name]
    kwargs = {"num_inference_steps": steps, "output_type": "latent", **make(pipe), **extra}
    with torch.random.fork_rng(devices=[]), _quiet():
        # Some pipelines sample from the VAE without the generator they were given.
        torch.manual_seed(0)
        return common.tensor_of(pipe(**kwargs))


def forward_kwargs(model: ModelMixin, *, seed: int = 0) -> dict[str, Any]:
    """Small valid inputs for a call of the transformer itself: ``model(**inputs)``."""
    name = next(c.__name__ for c in type(model).__mro__ if c.__name__ in FORWARD)
    specs = FORWARD[name]
    return {k: common.resolve(v, dict(model.config), (seed, k)) for k, v in specs.items()}
