"""A pipeline of diffusers from a probe: its components, then the pipeline around them."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from typing import Any, Final

from cachedit_yaml.compiler.own import find_own, is_own, own_names
from cachedit_yaml.engines.diffusers import modular
from cachedit_yaml.language.probe_spec import Part
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.probe.classes import (
    NotInstalledError,
    ProbeError,
    named_settings,
    refuse_settings,
)
from cachedit_yaml.probe.parts import build_part
from cachedit_yaml.probe.pipelines import Built, quiet, silence
from cachedit_yaml.probe.recipe import Recipe
from cachedit_yaml.probe.tokenizers import WithVocabulary
from cachedit_yaml.yaml.diagnostics import nearest

#: What helps where a class is the user's own.
OWN: Final = "; if it is your own, name its module with --import"


def find_pipeline(name: str) -> type | None:
    """The class of a pipeline: the user's own, or diffusers'; None where there is none."""
    import diffusers

    found = find_own(name) or getattr(diffusers, name, None)
    return found if inspect.isclass(found) and not _missing(found) else None


def why_no_pipeline(name: str) -> str:
    """Why :func:`find_pipeline` finds none of a name, in one sentence."""
    import diffusers

    missing = _missing(getattr(diffusers, name, object))
    if missing:
        return f"{name} needs {' and '.join(missing)}, which is not installed"
    near = nearest(name, own_names(), limit=1)
    hint = f"; nearest of what was imported: {near[0]}" if near else ""
    hint = hint or ("" if own_names() else OWN)
    return f"the installed diffusers has no {name}{hint}"


def _missing(cls: type) -> list[str]:
    """What is to be installed before a class of diffusers can be used.

    diffusers has empty classes in the places of those that need packages which are missing.
    """
    from diffusers.utils import DummyObject

    if not isinstance(cls, DummyObject):
        return []
    imports = {"opencv": "cv2"}
    backends: list[str] = getattr(cls, "_backends", [])
    return [name for name in backends if not importlib.util.find_spec(imports.get(name, name))]


def takes(pipeline: str) -> tuple[set[str], set[str]] | None:
    """What a pipeline class takes: the arguments of its constructor, and those of its call.

    None where the class is not installed.
    """
    cls = find_pipeline(pipeline)
    if cls is None:
        return None
    if modular.is_modular(cls):
        return modular.takes(cls)
    call: Any = cls.__call__
    return set(inspect.signature(cls).parameters), set(inspect.signature(call).parameters)


def build(
    spec: AdapterSpec, recipe: Recipe, *, seed: int = 0, overrides: Mapping[str, Any] | None = None
) -> Built:
    """Make what a recipe describes.

    Args:
        spec: the adapter that the recipe is of.
        recipe: one of :func:`~cachedit_yaml.probe.recipe.recipes`.
        seed: of the random weights.
        overrides: by the name of a component, fields that replace those of its config, or an
            object to use as it is; or an argument of the pipeline's own constructor.

    Raises:
        NotInstalledError: a class, or a package that it needs, is not installed.
        ProbeError: it cannot be made; the message says which part.
    """
    changes = dict(overrides or {})
    if recipe.skip is not None:
        raise NotInstalledError(recipe.skip)
    for package in recipe.needs:
        if importlib.util.find_spec(package) is None:
            raise NotInstalledError(f"{package} is not installed, and this pipeline needs it")
    if not recipe.pipeline:
        return Built(spec, recipe, _alone(spec, recipe, seed, changes))
    cls = find_pipeline(recipe.pipeline)
    if cls is None:
        raise NotInstalledError(why_no_pipeline(recipe.pipeline))
    _refuse(cls, recipe)
    made: dict[str, Any] = {}
    for name, part in recipe.parts.items():
        made[name] = _component(name, part, seed, changes.pop(name, {}))
    if modular.is_modular(cls):
        return modular.build(spec, recipe, cls, {**made, **changes})
    for name, parameter in inspect.signature(cls).parameters.items():
        # Text encoders, tokenizers and the like that the probe leaves out are absent.
        if parameter.default is inspect.Parameter.empty and parameter.kind not in (
            inspect.Parameter.VAR_KEYWORD,
            inspect.Parameter.VAR_POSITIONAL,
        ):
            made.setdefault(name, None)
    try:
        with quiet():
            pipeline = cls(**{**made, **recipe.config, **changes})
    except Exception as error:
        raise ProbeError(
            f"{recipe.pipeline} cannot be made: {type(error).__name__}: {error}"
        ) from error
    silence(pipeline)
    for name, value in recipe.attributes.items():
        setattr(pipeline, name, value)
    return Built(spec, recipe, pipeline)


def _refuse(cls: type, recipe: Recipe) -> None:
    """Refuse classes that load their parts by themselves, and what is no plain setting.

    Raises:
        ProbeError: there is any.
    """
    from diffusers import DiffusionPipeline

    if not (issubclass(cls, DiffusionPipeline) or modular.is_modular(cls) or is_own(cls)):
        raise ProbeError(f"{recipe.pipeline} is no pipeline that is made from its parts")
    known = named_settings(cls)
    if modular.is_modular(cls):
        modular.refuse_unknown(cls, recipe.config)
        known = ()
    refuse_settings(recipe.config, "config", known=known)
    refuse_settings(recipe.attributes, "attributes")


def _alone(spec: AdapterSpec, recipe: Recipe, seed: int, changes: Mapping[str, Any]) -> Any:
    for path in spec.transformers:
        part = recipe.parts.get(path)
        if part is not None:
            return _component(path, part, seed, changes)
    raise ProbeError("the probe has no part for any transformer of the adapter")


def _component(name: str, part: Part | None, seed: int, changes: Any) -> Any:
    if not isinstance(changes, dict):
        return changes
    if part is None:
        return None
    with quiet():
        made = build_part(part, name, seed=f"{seed}/{name}", **changes)
    # Engines read a tokenizer with its files.
    return made.tokenizer if isinstance(made, WithVocabulary) else made


def close() -> None:
    """Nothing of a pipeline of diffusers is global."""
