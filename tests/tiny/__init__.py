"""The small pipelines of the shipped adapters' probes, for tests that need one at hand."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from diffusers import DiffusionPipeline, ModelMixin

import cachedit_yaml
from cachedit_yaml.engines.diffusers.probe import build as build_probe
from cachedit_yaml.engines.diffusers.probe import find_pipeline
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.parts import build_part, randomise
from cachedit_yaml.probe.pipelines import Built, quiet, tensor_of
from cachedit_yaml.probe.recipe import Recipe, recipe, recipes
from cachedit_yaml.probe.recipe import variants as probe_variants
from cachedit_yaml.probe.values import Maker

__all__ = [
    "build",
    "call",
    "cases",
    "forward_kwargs",
    "names",
    "randomise",
    "run",
    "transformer",
    "transformers",
    "variants",
]


@functools.cache
def _probes() -> list[AdapterSpec]:
    shipped = [
        entry.with_probe("diffusers")
        for entry in cachedit_yaml.list_adapters()
        if entry.kind == "shipped" and "diffusers" in entry.engines
    ]
    return [spec for spec in shipped if spec.probe is not None]


def _spec(pipeline: str) -> AdapterSpec:
    return next(spec for spec in _probes() if pipeline in spec.pipelines)


@functools.cache
def _homes() -> dict[str, tuple[Recipe, str]]:
    """How to make each transformer that a probe tries alone, and its component, by its class."""
    found: dict[str, tuple[Recipe, str]] = {}
    for spec in _probes():
        for alone in (item for item in recipes(spec) if not item.pipeline):
            for path in spec.transformers:
                part = alone.parts.get(path)
                if part is not None and hasattr(_diffusers(), part.part):
                    found.setdefault(part.part, (alone, path))
    return found


def _diffusers() -> Any:
    import diffusers

    return diffusers


def names() -> list[str]:
    """Every pipeline class that a probe describes and the installed diffusers has.

    Modular ones take other arguments: ``tests/zoo`` makes them.
    """
    return [
        name
        for spec in _probes()
        for name in spec.pipelines
        if "Modular" not in name
        and find_pipeline(name) is not None
        and recipe(spec, name).skip is None
    ]


def transformers() -> list[str]:
    """Every transformer class that can be tried alone and the installed diffusers has."""
    return list(_homes())


def variants(pipeline_class: str) -> list[str]:
    """Names of the other makes of a class (``build(..., name=True)``)."""
    return probe_variants(_spec(pipeline_class), pipeline_class)


def transformer(class_name: str, *, seed: int = 0, **overrides: Any) -> ModelMixin:
    """The small transformer alone; ``overrides`` replace fields of its config."""
    alone, path = _homes()[class_name]
    with quiet():
        return build_part(alone.parts[path], path, seed=f"{seed}/{path}", **overrides)


def build(pipeline_class: str, *, seed: int = 0, **overrides: Any) -> DiffusionPipeline:
    """A small pipeline of that class.

    ``overrides`` are: the name of a variant with True; a component's name with a dictionary of
    config fields to replace, or with an object to use as it is (None included); or an argument of
    the pipeline's own constructor (``boundary_ratio=0.5``).
    """
    spec = _spec(pipeline_class)
    variant = None
    for name in variants(pipeline_class):
        variant = name if overrides.pop(name, False) else variant
    made = recipe(spec, pipeline_class, variant)
    pipe = build_probe(spec, made, seed=seed, overrides=overrides).target
    pipe.tiny_variant = variant
    return pipe


def _built(pipe: DiffusionPipeline) -> Built:
    name = next(c.__name__ for c in type(pipe).__mro__ if c.__name__ in names())
    spec = _spec(name)
    return Built(spec, recipe(spec, name, getattr(pipe, "tiny_variant", None)), pipe)


def cases(
    pipeline_class: str, variant: str | None = None
) -> dict[str, Callable[[DiffusionPipeline], dict[str, Any]]]:
    """Name of case -> function of the pipeline that returns fresh arguments for its call."""
    found = recipe(_spec(pipeline_class), pipeline_class, variant).cases
    return {case: functools.partial(_arguments, case) for case in found}


def _arguments(case: str, pipe: DiffusionPipeline) -> dict[str, Any]:
    return _built(pipe).arguments(case)


def run(
    pipe: DiffusionPipeline, case_name: str = "plain", steps: int = 4, **extra: Any
) -> torch.Tensor:
    """Call the pipeline with the inputs of a case and return its output as one tensor.

    ``extra`` arguments replace those of the case.
    """
    return _built(pipe).run(case_name, steps, **extra)


@torch.no_grad()
def call(model: ModelMixin, inputs: dict[str, Any]) -> torch.Tensor:
    """Everything that a call of a transformer returns, as one tensor."""
    with quiet():
        return tensor_of(model(**inputs))


def forward_kwargs(model: ModelMixin, *, seed: int = 0) -> dict[str, Any]:
    """Small valid inputs for a call of the transformer itself: ``model(**inputs)``."""
    name = next(c.__name__ for c in type(model).__mro__ if c.__name__ in _homes())
    maker = Maker(dict(model.config), steps=4)
    specs = _homes()[name][0].inputs
    return {key: maker.make(value, (seed, key)) for key, value in specs.items()}
