"""The classes that a probe may name: those of a few packages, and only kinds that are parts.

A probe is data from a stranger: it cannot name a function, a private name, or a class that does
more when it is made than hold weights or settings.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import importlib.util
import inspect
from collections.abc import Callable
from typing import Any

import torch

from cachedit_yaml.engines import engines


class ProbeError(Exception):
    """The probe says something that cannot be made; the message says where."""


class NotInstalledError(ProbeError):
    """The probe needs a package, or a class of a newer one, that is not installed."""


def find_part(name: str) -> type:
    """The class of a component: by its name in diffusers or transformers, or by its whole path.

    Raises:
        NotInstalledError: the package that holds it is not installed, or has no such class.
        ProbeError: it is no component.
    """
    cls = _by_path(name) if "." in name else _by_name(name)
    if not (inspect.isclass(cls) and is_part(cls)):
        raise ProbeError(f"{name} is no model, scheduler or processor")
    return cls


def find_dataclass(path: str) -> Callable[..., Any]:
    """A dataclass that holds inputs, such as the conditions of a video pipeline.

    Raises:
        NotInstalledError: there is none.
        ProbeError: it is no dataclass.
    """
    cls = _by_path(path)
    if not (inspect.isclass(cls) and dataclasses.is_dataclass(cls)):
        raise ProbeError(f"{path} is no dataclass")
    return cls


def is_part(cls: type) -> bool:
    """Whether objects of a class may be components of a pipeline."""
    from diffusers import ConfigMixin
    from transformers import FeatureExtractionMixin
    from transformers.image_processing_base import ImageProcessingMixin

    kinds = (torch.nn.Module, ConfigMixin, FeatureExtractionMixin, ImageProcessingMixin)
    # Pipelines have a config too, and load others.
    return issubclass(cls, kinds) and not hasattr(cls, "from_pipe")


def _by_name(name: str) -> Any:
    for package in ("diffusers", "transformers"):
        module = importlib.import_module(package)
        found = getattr(module, name, None) if not name.startswith("_") else None
        if found is not None:
            return found
    known = [*dir(importlib.import_module("diffusers"))]
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.8)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    raise NotInstalledError(f"neither diffusers nor transformers has {name}{hint}")


def _by_path(path: str) -> Any:
    package, *parts = path.split(".")
    with_models = (item for item in engines() if item.class_index)
    known = [*(name for item in with_models for name in item.packages), "transformers"]
    if package not in known:
        raise ProbeError(f"{path}: a probe may name classes of {', '.join(known)} only")
    if any(part.startswith("_") for part in parts) or not parts:
        raise ProbeError(f"{path}: no public class")
    if importlib.util.find_spec(package) is None:
        raise NotInstalledError(f"{package} is not installed")
    try:
        module = importlib.import_module(".".join([package, *parts[:-1]]))
    except ImportError as error:
        raise NotInstalledError(f"{path}: {error}") from None
    found = getattr(module, parts[-1], None)
    if found is None:
        raise NotInstalledError(f"the installed {package} has no {path}")
    return found
