"""Read the tables of the family modules and make components, inputs and calls from them.

Everything the family modules hold is plain data (strings, numbers, lists, dictionaries). Where a
value stands for something that must be made, it is a dictionary with one of these keys:

- ``{"randn": [shape]}``, ``{"rand": [shape]}``: a float tensor, normal or uniform in [0, 1);
- ``{"ones": [shape], "tail": n}``: a long tensor of ones, the last ``n`` of the last axis zero;
- ``{"mask": [shape]}``: a float tensor, zeros with ones in its right half;
- ``{"full": [shape], "value": v, "dtype": "int64"}``: a tensor of one value;
- ``{"flags": [0, 1, ...]}``: a tensor of truth values;
- ``{"count": n}``: a tensor of integers counting up from 0;
- ``{"pil": [width, height]}``: a noise image; ``"mode"`` is ``RGB`` unless given;
- ``{"items": [...]}``: a list whose members are resolved one by one;
- ``{"repeat": spec, "times": n}``: a list of ``n`` differing members;
- ``{"generator": seed}``: a fresh ``torch.Generator``.

A shape's members are numbers or names of fields of the transformer's config; where such a field
is None, so is the value.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import diffusers
import numpy as np
import PIL.Image
import torch

Data = Mapping[str, Any]

BUILDERS: dict[str, Callable[..., Any]] = {}
"""Names in the component tables that a function makes, not a diffusers class."""


def builder(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as the maker of the component ``name``."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        BUILDERS[name] = function
        return function

    return register


def _generator(*key: Any) -> torch.Generator:
    """A generator whose seed depends on the key only, not on the process or the platform."""
    return torch.Generator().manual_seed(zlib.crc32(repr(key).encode()))


@torch.no_grad()
def randomise(module: torch.nn.Module, seed: int | str) -> None:
    """Fill every parameter so that no block, gate, norm or projection is trivial.

    Each parameter's values depend on the seed and its own name only, so that a change of one
    part of a config leaves the weights of the others as they were.
    """
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=_generator(seed, name))
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


def component(parts: Data, spec: str | Data, *, seed: int | str = 0, **changes: Any) -> Any:
    """Make one component.

    ``spec`` is the name of an entry of ``parts``, or a dictionary with ``part``, ``config``
    (fields that replace those of the entry) and ``dtype``, if not float32. An entry's name is a
    class name, with a suffix after ``/`` where one class has several entries. ``changes`` replace
    fields once more.
    """
    if isinstance(spec, str):
        spec = {"part": spec}
    name = spec["part"].split("/")[0]
    config = {**parts.get(spec["part"], {}), **spec.get("config", {}), **changes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = BUILDERS[name](**config) if name in BUILDERS else _from_diffusers(name, config)
    if isinstance(made, torch.nn.Module):
        randomise(made, seed)
        made = made.eval().requires_grad_(False)
        if "dtype" in spec:
            made = made.to(getattr(torch, spec["dtype"]))
    return made


def _from_diffusers(name: str, config: Data) -> Any:
    """An object of a class of diffusers from its config."""
    return getattr(diffusers, name)(**config)


def resolve(spec: Any, config: Data, key: tuple[Any, ...]) -> Any:
    """The value that ``spec`` stands for; ``key`` makes its random numbers differ from others'."""
    if not isinstance(spec, Mapping):
        return spec

    def shape(kind: str) -> tuple[int, ...]:
        return tuple(config[n] if isinstance(n, str) else n for n in spec[kind])

    for kind in ("randn", "rand", "ones", "full"):
        if kind in spec and None in shape(kind):
            return None
    if "randn" in spec:
        return torch.randn(shape("randn"), generator=_generator(*key))
    if "rand" in spec:
        return torch.rand(shape("rand"), generator=_generator(*key))
    if "ones" in spec:
        made = torch.ones(shape("ones"), dtype=torch.long)
        if spec.get("tail"):
            made[..., -spec["tail"] :] = 0
        return made
    if "mask" in spec:
        made = torch.zeros(shape("mask"))
        made[..., made.shape[-1] // 2 :] = 1
        return made
    if "full" in spec:
        dtype = getattr(torch, spec.get("dtype", "float32"))
        return torch.full(shape("full"), spec["value"], dtype=dtype)
    if "flags" in spec:
        return torch.tensor(spec["flags"], dtype=torch.bool)
    if "count" in spec:
        return torch.arange(spec["count"])
    if "pil" in spec:
        return _noise_image(spec["pil"], spec.get("mode", "RGB"), key)
    if "items" in spec:
        return [resolve(one, config, (*key, i)) for i, one in enumerate(spec["items"])]
    if "repeat" in spec:
        return [resolve(spec["repeat"], config, (*key, i)) for i in range(spec["times"])]
    if "generator" in spec:
        return torch.Generator().manual_seed(spec["generator"])
    return {name: resolve(value, config, (*key, name)) for name, value in spec.items()}


def _noise_image(size: list[int], mode: str, key: tuple[Any, ...]) -> PIL.Image.Image:
    """An image of noise, or for mode ``L`` a mask that is white in its right half."""
    width, height = size
    if mode == "L":
        pixels = np.zeros((height, width), dtype=np.uint8)
        pixels[:, width // 2 :] = 255
        return PIL.Image.fromarray(pixels)
    channels = len(mode)
    noise = torch.randint(0, 256, (height, width, channels), generator=_generator(*key))
    return PIL.Image.fromarray(noise.to(torch.uint8).numpy(), mode=None)


class Stub(torch.nn.Module):
    """A module without weights, for components that are asked for dtype and device only."""

    @property
    def device(self) -> torch.device:
        """Where every small pipeline is made."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of every small pipeline."""
        return torch.float32


def tensor_of(output: Any) -> torch.Tensor:
    """The one tensor of a pipeline's output, whatever its kind."""
    value = output[0] if isinstance(output, (tuple, list)) else next(iter(output.values()))
    while isinstance(value, (tuple, list)):
        if all(isinstance(one, torch.Tensor) for one in value):
            return torch.stack(list(value))
        if all(isinstance(one, np.ndarray) for one in value):
            return torch.from_numpy(np.stack(value))
        value = value[0]
    return value if isinstance(value, torch.Tensor) else torch.from_numpy(np.asarray(value))
