"""The classes that a probe may name, and what it may say to their constructors.

A probe is data from a stranger: it cannot name a function, a private name, or a class that does
more when it is made than hold weights or settings; and no setting of theirs may name a place to
read from or to write to. The classes of an engine's own package are the choice of whoever installed
it: there every module is a part.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import torch

from cachedit_yaml.compiler.own import find_own, is_own, own_names
from cachedit_yaml.engines import engines

#: The packages whose classes are parts by their kind.
_LIBRARIES: Final = {"diffusers", "transformers"}
#: Where in them the classes of models are.
_ROOMS: Final = {"models", "schedulers", "guiders", "pipelines", "modular_pipelines"}
#: Where the dataclasses are that hold inputs of pipelines.
_INPUTS: Final = ("diffusers.pipelines.", "diffusers.modular_pipelines.")
#: Settings that name code, a place or a hub, or start what does.
_PLACES: Final = re.compile(
    r"^_|pretrained|trust_remote_code|auto_map|attn_implementation|use_kernels|quantization"
    r"|(^|_)(backbone|checkpoint|repo|repo_id|hub|url|path|paths|dir|directory|folder|files?"
    r"|filename|revision|subfolder|gguf|backend|device_map)$|^(hf_|(use_)?auth_)?token$",
    re.IGNORECASE,
)


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
    cls = find_own(name) or (_by_path(name) if "." in name else _by_name(name))
    if not (inspect.isclass(cls) and is_part(cls)):
        raise ProbeError(f"{name} is no model, scheduler or processor")
    return cls


def find_dataclass(path: str) -> Callable[..., Any]:
    """A dataclass that holds inputs, such as the conditions of a video pipeline.

    Raises:
        NotInstalledError: there is none.
        ProbeError: it is no dataclass, or none of a pipeline's.
    """
    cls = find_own(path) or _by_path(path)
    if not (inspect.isclass(cls) and dataclasses.is_dataclass(cls)):
        raise ProbeError(f"{path} is no dataclass")
    if not (cls.__module__.startswith(_INPUTS) or _is_engines(cls) or is_own(cls)):
        raise ProbeError(f"{path} holds no inputs of a pipeline")
    return cls


def is_part(cls: type) -> bool:
    """Whether objects of a class may be components of a pipeline, by its kind."""
    from diffusers import ConfigMixin, ModelMixin, SchedulerMixin
    from diffusers.guiders.guider_utils import BaseGuidance
    from transformers import FeatureExtractionMixin, PreTrainedModel
    from transformers.image_processing_base import ImageProcessingMixin

    if is_own(cls):
        return issubclass(cls, (torch.nn.Module, ConfigMixin))
    if _is_engines(cls):
        # Pipelines have a config too, and load others.
        return issubclass(cls, (torch.nn.Module, ConfigMixin)) and not hasattr(cls, "from_pipe")
    models = (ModelMixin, PreTrainedModel)
    settings = (SchedulerMixin, BaseGuidance, FeatureExtractionMixin, ImageProcessingMixin)
    return _package(cls) in _LIBRARIES and issubclass(cls, (*models, *settings))


def refuse_settings(given: Mapping[str, Any], where: str, known: Collection[str] = ()) -> None:
    """Refuse what is no plain setting.

    Args:
        given: settings of a probe; those inside of others count too.
        where: they stand, for messages.
        known: the names that there are; empty for any.

    Raises:
        ProbeError: one names code, a place or a hub, or is unknown.
    """
    for name, value in given.items():
        here = f"{where}.{name}"
        if known and name not in known:
            raise ProbeError(f"{here}: the constructor names no such setting")
        if _PLACES.search(str(name)) and value is not None:
            raise ProbeError(f"{here}: a probe cannot say where anything is read or written")
        _refuse_value(value, here)


def named_settings(cls: type) -> Collection[str]:
    """The settings that a constructor names, where it would take others too; else empty."""
    parameters = inspect.signature(cls).parameters
    more = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in parameters.values())
    return [*parameters] if more else []


def _refuse_value(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        refuse_settings(value, where)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_value(item, where)
    elif isinstance(value, str) and ("/" in value or "\\" in value):
        raise ProbeError(f"{where}: {value!r} looks like a place, which a probe cannot name")


def _package(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def _is_engines(cls: type) -> bool:
    """Whether a class is of an engine's own package."""
    return _package(cls) in {*_packages()} - _LIBRARIES


def _packages() -> list[str]:
    with_models = (item for item in engines() if item.class_index)
    return [*(name for item in with_models for name in item.packages), "transformers"]


def _by_name(name: str) -> Any:
    for package in ("diffusers", "transformers"):
        module = importlib.import_module(package)
        found = getattr(module, name, None) if not name.startswith("_") else None
        if found is not None:
            return found
    known = [*own_names(), *dir(importlib.import_module("diffusers"))]
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.8)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    raise NotInstalledError(f"neither diffusers nor transformers has {name}{hint}")


def _by_path(path: str) -> Any:
    package, *parts = path.split(".")
    known = _packages()
    if package not in known:
        raise ProbeError(f"{path}: a probe may name classes of {', '.join(known)} only")
    if any(part.startswith("_") for part in parts) or not parts:
        raise ProbeError(f"{path}: no public class")
    if package in _LIBRARIES and len(parts) > 1 and parts[0] not in _ROOMS:
        raise ProbeError(f"{path}: the parts of {package} are in its {', '.join(sorted(_ROOMS))}")
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
