"""Components of small pipelines, with random weights."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from typing import Any, Final

import torch
import yaml

from cachedit_yaml.language.probe_spec import Part
from cachedit_yaml.probe.builders import BUILDERS
from cachedit_yaml.probe.classes import ProbeError, find_part
from cachedit_yaml.probe.values import generator

#: Parameters of one component, far beyond any small model.
MAX_PARAMETERS: Final = 2**26


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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if "builder" in entry:
                made = BUILDERS[entry["builder"]](**config)
            else:
                cls = find_part(name)
                if issubclass(cls, torch.nn.Module):
                    refuse_large(lambda: _construct(cls, config), config, f"parts.{where}")
                made = _construct(cls, config)
    except ProbeError:
        raise
    except Exception as error:
        raise ProbeError(
            f"parts.{where}: {name} cannot be made: {type(error).__name__}: {error}"
        ) from error
    if part.extra:
        if not hasattr(made, "register_to_config"):
            raise ProbeError(f"parts.{where}: 'extra' is for classes of diffusers with a config")
        made.register_to_config(**part.extra)
    if isinstance(made, torch.nn.Module):
        randomise(made, seed)
        made = made.eval().requires_grad_(False)
        if part.dtype is not None:
            made = made.to(getattr(torch, part.dtype))
    return made


def _construct(cls: Any, config: Mapping[str, Any]) -> Any:
    from transformers import PreTrainedModel

    if issubclass(cls, PreTrainedModel):
        return cls(cls.config_class(**config))
    return cls(**config)


def refuse_large(make: Callable[[], torch.nn.Module], config: Any, where: str) -> None:
    """Refuse a component that would fill the memory, before it is made.

    Args:
        make: makes it.
        config: what it is made from; without large numbers in it, nothing is tried.
        where: the component, for messages.

    Raises:
        ProbeError: it is too large.
    """
    numbers = sorted((abs(number) for number in _numbers(config)), reverse=True)
    # A width may be the product of two of them, heads and their size, and a matrix has two widths.
    if math.prod(numbers[:2]) ** 2 <= MAX_PARAMETERS:
        return
    try:
        with torch.device("meta"):
            made = make()
        count = sum(item.numel() for item in made.parameters())
    except Exception:  # what cannot be made there is not known to be large
        return
    if count > MAX_PARAMETERS:
        raise ProbeError(f"{where}: {count:,} parameters are too many for a probe")


def _numbers(value: Any) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _numbers(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _numbers(item)


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
