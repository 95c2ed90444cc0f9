"""What a watched call has shown, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from cachedit_yaml.runtime.timesteps import Moment


@dataclass(frozen=True)
class Origin:
    """The output of a block that a tensor is.

    Attributes:
        blocks: path of the block list.
        index: which block.
        place: where in its output: a key, a field or a number; empty for the output itself.
    """

    blocks: str
    index: int
    place: str


class Argument(NamedTuple):
    """A tensor that a block was called with.

    Attributes:
        token: the same number for the same tensor object.
        shape: its shape.
        origin: the block whose output it is; None for any other tensor.
        mark: a few of its values, for the first block of a list only.
    """

    token: int
    shape: tuple[int, ...]
    origin: Origin | None
    mark: tuple[float, ...]


class Result(NamedTuple):
    """One entry of what a block returned.

    Attributes:
        shape: of a tensor; None for anything else.
        passes: the argument that it is, unchanged; None where it is new.
    """

    shape: tuple[int, ...] | None
    passes: str | None


@dataclass(frozen=True)
class BlockCall:
    """One call of a block.

    Attributes:
        index: its place in the list.
        number: how many blocks of any list had been called before.
        tensors: the tensors that it was called with, by the names of its parameters.
        others: names of what else was given: containers, caches, objects.
        form: in which form it returned.
        results: the entries of its output, by place.
        writes: arguments, and attributes of its own, whose tensors it changed and did not return.
        kept: blocks whose output somebody still holds, two blocks later or more.
    """

    index: int
    number: int
    tensors: Mapping[str, Argument]
    others: tuple[str, ...]
    form: Literal["tensor", "sequence", "fields"]
    results: Mapping[str, Result]
    writes: tuple[str, ...]
    kept: tuple[int, ...]


@dataclass
class Forward:
    """One call of a module that holds block lists.

    Attributes:
        module: its path from what was watched.
        step: how many times a scheduler had stepped before.
        schedule: how many times a schedule had been set before.
        end: how many times a scheduler had stepped when it returned.
        literals: texts, numbers, truth values and None among its arguments, by name.
        moments: arguments that may be a timestep, by name.
        taken: numbers of the tensors in its arguments.
        given: numbers of the tensors in what it returned.
        calls: the block calls in it, by the path of the list.
        stashed: somebody still held what a block had returned, beside what it returned itself.
    """

    module: str
    step: int
    schedule: int
    end: int = 0
    literals: dict[str, Any] = field(default_factory=dict)
    moments: dict[str, Moment] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)
    given: set[int] = field(default_factory=set)
    calls: dict[str, list[BlockCall]] = field(default_factory=dict)
    stashed: bool = False

    @property
    def writes(self) -> bool:
        """Whether a block in it changed what it did not return."""
        return any(item.writes for blocks in self.calls.values() for item in blocks)

    def passes(self, blocks: str) -> list[list[BlockCall]]:
        """The calls of a list's blocks, parted where a block runs that has run before."""
        found: list[list[BlockCall]] = []
        for call in self.calls.get(blocks, []):
            if not found or any(call.index == item.index for item in found[-1]):
                found.append([])
            found[-1].append(call)
        return found


@dataclass
class Run:
    """One watched call.

    Attributes:
        forwards: in their order.
        stepped: path of the scheduler of each step, in their order.
        schedules: path of the scheduler whenever one was told its number of steps.
        latents: shape of what was stepped; None where nothing was.
        gradients: gradients were on, whose graph holds everything.
    """

    forwards: list[Forward] = field(default_factory=list)
    stepped: list[str] = field(default_factory=list)
    schedules: list[str] = field(default_factory=list)
    latents: tuple[int, ...] | None = None
    gradients: bool = False

    def of(self, module: str) -> list[Forward]:
        """The calls of one module."""
        return [item for item in self.forwards if item.module == module]
