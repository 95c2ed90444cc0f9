"""One call of a module: its arguments by name, its output by place, its timestep."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cachedit_yaml.drafting.parts import parameters
from cachedit_yaml.drafting.steps import NAMES
from cachedit_yaml.runtime.outputs import entries
from cachedit_yaml.runtime.timesteps import moment

#: Tensors of more dimensions, or with more elements, are no timesteps.
_DIMENSIONS, _ELEMENTS = 2, 1 << 17


@dataclass(frozen=True)
class LastCall:
    """The last call of a module that was seen."""

    reader: Reader
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def steps(self, timestep: str, count: int) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Its arguments for some steps: the timestep falls, everything else stays.

        Args:
            timestep: the argument that carries it.
            count: how many steps.
        """
        named = self.reader.named(self.args, self.kwargs)
        given = named.get(timestep)
        for step in range(count):
            moved = given
            if isinstance(given, (int, float)):
                moved = given * (1 - step / (2 * count))
            elif isinstance(given, torch.Tensor):
                moved = (given * (1 - step / (2 * count))).to(given.dtype)
            yield self.reader.replaced(self.args, self.kwargs, timestep, moved)


class Turn:
    """The timesteps of one module, to see where they begin again.

    Attributes:
        values: how many there were, each one that stays counted once.
    """

    def __init__(self) -> None:
        self.values = 0
        self._first = self._last = 0.0
        self._sign = 0

    def begins_again(self, value: float) -> bool:
        """Whether a timestep goes back to the first one, or beyond it."""
        if self.values and value == self._last:
            return False
        sign = (value > self._last) - (value < self._last) if self.values else 0
        self.values += 1
        if self._sign and sign != self._sign:
            if (value - self._first) * sign >= 0:
                return True
        elif self._sign == 0:
            self._sign = sign
        if self.values == 1:
            self._first = value
        self._last = value
        return False


class Reader:
    """Gives the arguments of calls their names."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._places = [
            name
            for name, item in parameters(module).items()
            if item.kind in (inspect.Parameter.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)
        ]

    def named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by the names of the parameters; by numbers where they have none."""
        numbers = [str(place) for place in range(len(self._places), len(args))]
        return {**dict(zip([*self._places, *numbers], args, strict=False)), **kwargs}

    def replaced(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str, value: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A call with another value for one argument."""
        if name in self._places[: len(args)]:
            place = self._places.index(name)
            return (*args[:place], value, *args[place + 1 :]), dict(kwargs)
        return args, {**kwargs, name: value} if name in kwargs else dict(kwargs)


def moment_of(name: str, value: Any) -> Any:
    """The timestep that an argument may be; None for what is none.

    Args:
        name: the argument; what is called as timesteps are may have one for each frame or token.
        value: what it carries.
    """
    if isinstance(value, torch.Tensor) and (
        (value.ndim > _DIMENSIONS and name not in NAMES)
        or value.numel() > _ELEMENTS
        or value.dtype == torch.bool
    ):
        return None
    return moment(value)


def places_of(output: Any) -> tuple[dict[str, Any], Any]:
    """The entries of an output, and its form."""
    if isinstance(output, torch.Tensor):
        return {"": output}, "tensor"
    form = "sequence" if isinstance(output, (tuple, list)) else "fields"
    return dict(entries(output)), form
