"""Find classes of the installed diffusers, and make models of them on the meta device."""

from __future__ import annotations

import functools
import inspect
import os
import typing
import warnings
from typing import Any

import torch


@functools.cache
def find_class(name: str) -> type | None:
    """The class of this name that diffusers exports, or None."""
    # What these say about optional needs of theirs is of no use here.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    try:
        import diffusers

        found = getattr(diffusers, name, None)
    except (ImportError, RuntimeError):
        # A class whose own needs are not installed raises when it is touched.
        return None
    return found if inspect.isclass(found) else None


@functools.cache
def build(cls: type) -> torch.nn.Module | str:
    """A model of the class with its default config, on the meta device.

    Returns:
        The model, or one sentence that says why there is none.
    """
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            model = cls()
    except Exception as error:  # a constructor of another package may raise anything
        reason = " ".join(str(error).split())[:100]
        return f"it cannot be made from its defaults: {type(error).__name__}: {reason}"
    return model if isinstance(model, torch.nn.Module) else "it is no torch.nn.Module"


@functools.cache
def components(pipeline: Any) -> dict[str, tuple[type, ...]]:
    """The parts that a pipeline's constructor takes, with the classes that it says they have."""
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
