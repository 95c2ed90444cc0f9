"""Inputs of a probe: what stands for a tensor, a picture or a list becomes one.

Plain values are taken as they are. A mapping with one of these keys is made into something:

- ``{randn: [shape]}``, ``{rand: [shape]}``: a float tensor, normal or uniform in [0, 1), with a
  ``dtype`` of another one;
- ``{randint: [shape], below: n}``: a long tensor of numbers from 0 to n - 1;
- ``{ones: [shape], tail: n}``: a long tensor of ones, the last ``n`` of the last axis zero;
- ``{mask: [shape]}``: a float tensor, zeros with ones in its right half;
- ``{full: [shape], value: v, dtype: int64}``: a tensor of one value;
- ``{tensor: [...], dtype: bool}``: a tensor of these values;
- ``{count: n}``: a tensor of integers counting up from 0;
- ``{picture: [width, height], mode: RGB}``: a noise image, or for mode ``L`` a mask;
- ``{repeat: value, times: n}``: a list of ``n`` differing members;
- ``{steps: x}``: the number of steps times ``x``, rounded, at least 1;
- ``{each: [x, y, ...]}``: ``x`` in the first step of a transformer alone, ``y`` in the second;
- ``{tuple: [x, y, ...]}``: a tuple of these values;
- ``{rope: [tokens, size], as: pair}``: a table of rotary angles: a tuple of cosines and sines, in
  one tensor for ``joined``, or complex numbers for ``complex``;
- ``{cat: [x, y, ...], dim: n}``: tensors joined along an axis, the last by default;
- ``{make: package.module.Class, with: {...}}``: an object of a dataclass of an allowed package.

A shape's members are numbers or names of fields of the transformer's config; where such a field is
None, so is the value. Random numbers depend on the name of the input alone.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import PIL.Image
import torch

from cachedit_yaml.probe.classes import ProbeError, find_dataclass
from cachedit_yaml.probe.limits import COUNTED, Budget, budget


class Maker:
    """Makes the values of one call.

    Args:
        config: the transformer's config, whose fields shapes may name.
        steps: denoising steps of the call.
        step: which of them, where each is a call of its own.
    """

    def __init__(self, config: Mapping[str, Any], steps: int, step: int = 0) -> None:
        self.config = config
        self.steps = steps
        self.step = step
        self._budget = Budget(budget().limits)

    def make(self, spec: Any, key: tuple[Any, ...]) -> Any:
        """The value that `spec` stands for.

        Args:
            spec: plain data of a probe.
            key: makes its random numbers differ from others'.

        Raises:
            LimitError: the values of this call have too many elements.
            ProbeError: the data stands for nothing that can be made.
        """
        self._budget.spend("elements", 1)
        if isinstance(spec, (list, tuple)):
            return [self.make(one, (*key, index)) for index, one in enumerate(spec)]
        if not isinstance(spec, Mapping):
            return spec
        for kind, maker in _MAKERS.items():
            if kind in spec:
                try:
                    return maker(self, spec, key)
                except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
                    raise ProbeError(
                        f"{_place(key)}: {dict(spec)} cannot be made: {error}"
                    ) from error
        return {name: self.make(value, (*key, name)) for name, value in spec.items()}

    def weight(self, spec: Any) -> int:
        """About how many elements a value will have, before any of them is made."""
        if isinstance(spec, (list, tuple)):
            return 1 + sum(map(self.weight, spec))
        if not isinstance(spec, Mapping):
            return 1
        if "repeat" in spec:
            times = spec.get("times")
            times = self.config.get(times) if isinstance(times, str) else times
            return self.weight(spec["repeat"]) * (times if isinstance(times, int) else 1)
        for kind in COUNTED & spec.keys():
            dims = spec[kind] if isinstance(spec[kind], list) else [spec[kind]]
            return math.prod(dim for dim in dims if isinstance(dim, int))
        return 1 + sum(map(self.weight, spec.values()))

    def shape(self, dims: Any, key: tuple[Any, ...]) -> tuple[int, ...] | None:
        """A shape, or None where the config has no size for it."""
        sizes = []
        for dim in dims:
            if isinstance(dim, str):
                if dim not in self.config:
                    raise ProbeError(
                        f"{_place(key)}: the transformer's config has no field {dim!r}"
                    )
                dim = self.config[dim]
                if dim is None:
                    return None
            sizes.append(int(dim))
        if any(size < 0 for size in sizes):
            raise ProbeError(f"{_place(key)}: no tensor has the shape {sizes}")
        self._budget.spend("elements", math.prod(sizes))
        return tuple(sizes)


def generator(*key: Any) -> torch.Generator:
    """A generator whose seed depends on the key only, not on the process or the platform."""
    return torch.Generator().manual_seed(zlib.crc32(repr(key).encode()))


def _place(key: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in key)


def _shaped(kind: str, fill: Callable[[tuple[int, ...], Mapping[str, Any], Any], Any]) -> Any:
    """A maker of tensors of the shape that stands under `kind`."""

    def make(maker: Maker, spec: Mapping[str, Any], key: tuple[Any, ...]) -> Any:
        shape = maker.shape(spec[kind], key)
        return None if shape is None else fill(shape, spec, key)

    return make


def _random(fill: Callable[..., torch.Tensor]) -> Any:
    """What makes random numbers, cast if the spec says so."""
    return lambda shape, spec, key: fill(shape, generator=generator(*key)).to(
        _dtype(spec, "float32")
    )


def _ones(shape: tuple[int, ...], spec: Mapping[str, Any], _: Any) -> torch.Tensor:
    made = torch.ones(shape, dtype=torch.long)
    if spec.get("tail"):
        made[..., -spec["tail"] :] = 0
    return made


def _mask(shape: tuple[int, ...], *_: Any) -> torch.Tensor:
    made = torch.zeros(shape)
    made[..., shape[-1] // 2 :] = 1
    return made


def _dtype(spec: Mapping[str, Any], default: str) -> torch.dtype:
    found = getattr(torch, str(spec.get("dtype", default)), None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{spec['dtype']!r} is no dtype")
    return found


def _picture(maker: Maker, spec: Mapping[str, Any], key: tuple[Any, ...]) -> PIL.Image.Image:
    """An image of noise, or for mode ``L`` a mask that is white in its right half."""
    width, height = maker.shape(spec["picture"], key) or (1, 1)
    mode = str(spec.get("mode", "RGB"))
    if mode == "L":
        pixels = np.zeros((height, width), dtype=np.uint8)
        pixels[:, width // 2 :] = 255
        return PIL.Image.fromarray(pixels)
    noise = torch.randint(0, 256, (height, width, len(mode)), generator=generator(*key))
    return PIL.Image.fromarray(noise.to(torch.uint8).numpy())


def _repeat(maker: Maker, spec: Mapping[str, Any], key: tuple[Any, ...]) -> list[Any]:
    (times,) = maker.shape([spec["times"]], key) or (0,)
    budget().bound("elements", weight := maker.weight(spec), f"{_place(key)}: {weight:,}")
    return [maker.make(spec["repeat"], (*key, index)) for index in range(times)]


def _steps(maker: Maker, spec: Mapping[str, Any], _: Any) -> int:
    steps = max(1, round(maker.steps * float(spec["steps"])))
    budget().bound("steps", steps, f"{steps:,} steps")
    return steps


def _each(maker: Maker, spec: Mapping[str, Any], key: tuple[Any, ...]) -> Any:
    """What a transformer alone is called with in this step."""
    values = spec["each"]
    return maker.make(values[maker.step % len(values)], (*key, maker.step))


def _rope(shape: tuple[int, ...], spec: Mapping[str, Any], key: Any) -> Any:
    """Cosines and sines of random angles, as the rotary embeddings of models hold them."""
    angles = torch.rand(shape, generator=generator(*key))
    kind = spec.get("as", "pair")
    if kind == "pair":
        return angles.cos(), angles.sin()
    if kind == "joined":
        return torch.cat([angles.cos(), angles.sin()], dim=-1)
    if kind == "complex":
        return torch.polar(torch.ones_like(angles), angles)
    raise ValueError(f"'as' is pair, joined or complex, not {kind!r}")


def _object(maker: Maker, spec: Mapping[str, Any], key: tuple[Any, ...]) -> Any:
    given = maker.make(spec.get("with", {}), key)
    return find_dataclass(str(spec["make"]))(**given)


_MAKERS: Final[Mapping[str, Callable[[Maker, Mapping[str, Any], tuple[Any, ...]], Any]]] = {
    "randn": _shaped("randn", _random(torch.randn)),
    "rand": _shaped("rand", _random(torch.rand)),
    "randint": _shaped(
        "randint",
        lambda shape, spec, key: torch.randint(
            0, int(spec["below"]), shape, generator=generator(*key)
        ),
    ),
    "ones": _shaped("ones", _ones),
    "mask": _shaped("mask", _mask),
    "full": _shaped(
        "full",
        lambda shape, spec, _: torch.full(shape, spec["value"], dtype=_dtype(spec, "float32")),
    ),
    "tensor": lambda _, spec, __: torch.tensor(spec["tensor"], dtype=_dtype(spec, "float32")),
    "count": lambda maker, spec, key: torch.arange(*(maker.shape([spec["count"]], key) or (0,))),
    "picture": _picture,
    "repeat": _repeat,
    "steps": _steps,
    "each": _each,
    "tuple": lambda maker, spec, key: tuple(maker.make(spec["tuple"], key)),
    "rope": _shaped("rope", _rope),
    "cat": lambda maker, spec, key: torch.cat(
        maker.make(spec["cat"], key), dim=int(spec.get("dim", -1))
    ),
    "make": _object,
}
