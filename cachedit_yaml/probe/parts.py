"""Components of small pipelines, with random weights."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any, NamedTuple

import torch
import yaml

from cachedit_yaml.language.probe_spec import Part
from cachedit_yaml.probe.builders import BUILDERS
from cachedit_yaml.probe.classes import ProbeError, find_part, named_settings, refuse_settings
from cachedit_yaml.probe.limits import counted
from cachedit_yaml.probe.values import generator


@functools.cache
def library() -> Mapping[str, Mapping[str, Any]]:
    """The parts that every probe may name: by name, their `class` or `builder`, and `config`."""
    text = files("cachedit_yaml.probe").joinpath("library.yaml").read_text(encoding="utf-8")
    found: dict[str, Mapping[str, Any]] = yaml.safe_load(text)
    return found


def on_top(part: Part | None, base: Part | None) -> Part | None:
    """A part as two layers of a probe give it: the same part with more config, or another one."""
    if part is None or base is None or (part.part is not None and part.part != base.part):
        return part
    return Part(
        part=base.part,
        config={**(base.config or {}), **(part.config or {})},
        extra={**(base.extra or {}), **(part.extra or {})},
        dtype=part.dtype or base.dtype,
        folder=part.folder or base.folder,
        prefix=part.prefix or base.prefix,
    )


def build_part(part: Part, where: str, *, seed: int | str = 0, **changes: Any) -> Any:
    """Make one component.

    Args:
        part: what the probe says of it.
        where: the component, for messages.
        seed: of its random weights.
        **changes: fields that replace those of its config.

    Raises:
        NotInstalledError: its class is not installed.
        ProbeError: it cannot be made.
    """
    if part.part is None:
        raise ProbeError(f"parts.{where}: it has no 'part', and nothing further out gives one")
    entry = library().get(part.part, {})
    name = entry.get("class", part.part)
    config = {**entry.get("config", {}), **(part.config or {}), **changes}
    try:
        make = _builder(entry["builder"]) if "builder" in entry else _constructor(find_part(name))
        make.check(part.config or {}, f"parts.{where}")
        with torch.random.fork_rng(devices=[]), counted():
            torch.manual_seed(0)
            made = make.call(**config)
    except ProbeError:
        raise
    except Exception as error:
        raise ProbeError(
            f"parts.{where}: {name} cannot be made: {type(error).__name__}: {error}"
        ) from error
    if part.extra:
        refuse_settings(part.extra, f"parts.{where}.extra")
        if not hasattr(made, "register_to_config"):
            raise ProbeError(f"parts.{where}: 'extra' is for classes of diffusers with a config")
        made.register_to_config(**part.extra)
    if isinstance(made, torch.nn.Module):
        randomise(made, seed)
        made = made.eval().requires_grad_(False)
        if part.dtype is not None:
            made = made.to(getattr(torch, part.dtype))
    return made


class _Make(NamedTuple):
    """What makes a component, and what refuses settings of a probe for it."""

    call: Callable[..., Any]
    check: Callable[[Mapping[str, Any], str], None]


def _builder(name: str) -> _Make:
    """One of our own; its texts are words and templates, not places."""
    call = BUILDERS[name]
    own = inspect.signature(call).parameters
    return _Make(
        call,
        lambda config, where: refuse_settings({key: 0 for key in config if key not in own}, where),
    )


def _constructor(cls: Any) -> _Make:
    from transformers import PreTrainedModel
    from transformers.image_processing_base import ImageProcessingMixin

    if issubclass(cls, PreTrainedModel):
        return _Make(lambda **config: cls(cls.config_class(**config)), refuse_settings)
    names = () if issubclass(cls, ImageProcessingMixin) else named_settings(cls)
    return _Make(cls, functools.partial(refuse_settings, known=names))


@torch.no_grad()
def randomise(module: torch.nn.Module, seed: int | str) -> None:
    """Fill every parameter so that no block, gate, norm or projection is trivial.

    Each parameter's values depend on the seed and its own name only, so that a change of one part
    of a config leaves the weights of the others as they were.
    """
    for name, parameter in module.named_parameters():
        if not parameter.is_floating_point():
            continue
        noise = torch.randn(parameter.shape, generator=generator(seed, name))
        last = name.rsplit(".", 1)[-1]
        if last in ("scale_shift_table", "modulation"):
            value = 0.3 * noise
        elif last == "gamma" or (last == "weight" and parameter.ndim == 1):
            value = 1 + 0.1 * noise
        elif parameter.ndim <= 1 or last == "bias":
            value = 0.1 * noise
        else:
            value = noise / math.sqrt(math.prod(parameter.shape[1:]))
        parameter.copy_(value)
