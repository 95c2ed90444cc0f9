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
from typing import Any, Final

import torch

#: Packages whose classes a probe may name.
PACKAGES: Final = ("diffusers", "transformers", "vllm_omni", "sglang")


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


def find_pipeline(name: str) -> type | None:
    """The class of a diffusers pipeline, or None where the installed diffusers has none."""
    import diffusers

    found = getattr(diffusers, name, None)
    return found if inspect.isclass(found) and not _missing(found) else None


def why_no_pipeline(name: str) -> str:
    """Why :func:`find_pipeline` finds none of a name, in one sentence."""
    import diffusers

    missing = _missing(getattr(diffusers, name, object))
    if missing:
        return f"{name} needs {' and '.join(missing)}, which is not installed"
    return f"the installed diffusers has no {name}"


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
    if package not in PACKAGES:
        raise ProbeError(f"{path}: a probe may name classes of {', '.join(PACKAGES)} only")
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
