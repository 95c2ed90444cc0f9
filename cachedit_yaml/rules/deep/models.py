"""Find the classes that adapters name, and make models of them on the meta device."""

from __future__ import annotations

import functools
import inspect
import typing
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from cachedit_yaml.compiler.own import find_own
from cachedit_yaml.engines import find_engine
from cachedit_yaml.language.keys import HOME
from cachedit_yaml.language.spec import Transformer
from cachedit_yaml.yaml.diagnostics import KeyPath


def classes_named(path: str, declared: Transformer) -> dict[str, KeyPath]:
    """The classes that an adapter names for a transformer, with the keys that lead to each."""
    here: KeyPath = ("transformers", path)
    named: dict[str, KeyPath] = {}
    for index, name in enumerate(declared.transformer_class or ()):
        named.setdefault(name, (*here, "class", index))
    for number, variant in enumerate(declared.variants or ()):
        for index, name in enumerate(variant.transformer_class or ()):
            named.setdefault(name, (*here, "variants", number, "class", index))
    return named


def find_class(name: str) -> type | None:
    """The class of this name: the user's own, or one that diffusers exports; or None."""
    return find_own(name) or _of_diffusers(name)


@functools.cache
def _of_diffusers(name: str) -> type | None:
    try:
        import diffusers

        found = getattr(diffusers, name, None)
    except (ImportError, RuntimeError):
        # A class whose own needs are not installed raises when it is touched.
        return None
    # diffusers exports a stand-in for a class whose own needs are not installed.
    real = inspect.isclass(found) and not hasattr(found, "_backends")
    return found if real else None


def build(cls: type, config: Mapping[str, Any] | None = None) -> torch.nn.Module | str:
    """A model of the class on the meta device.

    Args:
        cls: the class.
        config: fields of its config; None takes the defaults of the class.

    Returns:
        The model, or one sentence that says why there is none.
    """
    return _make(cls, config) if config else _make_default(cls)


@functools.cache
def _make_default(cls: type) -> torch.nn.Module | str:
    return _make(cls, {})


def _make(cls: type, config: Mapping[str, Any]) -> torch.nn.Module | str:
    if not issubclass(cls, torch.nn.Module):
        return "it is no torch.nn.Module"  # a Modular pipeline, say, loads what its config names
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            model: torch.nn.Module = cls(**config)
    except Exception as error:  # a constructor of another package may raise anything
        reason = " ".join(str(error).split())[:100]
        return f"it cannot be made: {type(error).__name__}: {reason}"
    return model


@functools.cache
def components(pipeline: Any) -> dict[str, tuple[type, ...]]:
    """The parts that a pipeline's constructor takes, with the classes that it says they have.

    Of a Modular pipeline, those that its own blocks expect.
    """
    if hasattr(pipeline, "default_blocks_name"):
        return {name: (cls,) for name, cls in find_engine(HOME[0]).components(pipeline)}
    try:
        hints = typing.get_type_hints(pipeline.__init__)
    except Exception:  # an annotation may name what is not imported
        hints = {}
    names = [name for name in inspect.signature(pipeline.__init__).parameters if name != "self"]
    return {name: _classes(hints.get(name)) for name in names}


def may_be_none(pipeline: Any, name: str) -> bool:
    """Whether a pipeline can be built without a part."""
    if name in (getattr(pipeline, "_optional_components", None) or ()):
        return True
    parameter = inspect.signature(pipeline.__init__).parameters.get(name)
    return parameter is not None and parameter.default is None


def _classes(hint: Any) -> tuple[type, ...]:
    if inspect.isclass(hint):
        return (hint,) if issubclass(hint, torch.nn.Module) else ()
    return tuple(cls for part in typing.get_args(hint) for cls in _classes(part))
