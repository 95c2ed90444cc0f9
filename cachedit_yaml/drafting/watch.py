"""Watch one call of a pipeline: what its schedulers, models and blocks are given and return."""

from __future__ import annotations

import functools
import inspect
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch

from cachedit_yaml.compiler.signature import parameters_of, plain_forward
from cachedit_yaml.drafting.marks import Tensors, own_state, sample, versions
from cachedit_yaml.drafting.parts import Candidate, candidates, schedulers
from cachedit_yaml.drafting.record import Argument, BlockCall, Forward, Origin, Result, Run
from cachedit_yaml.runtime.outputs import entries
from cachedit_yaml.runtime.patching import Around
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


class Watch:
    """Records what runs, for as long as it is entered; then everything is as before.

    Args:
        target: a pipeline, or a transformer alone.

    Attributes:
        run: what was recorded.
        candidates: the block lists that are looked at.
        last: the last call of each module that holds block lists.
        can_tell: whether a scheduler tells where a generation begins.
        on_schedule: asked when a scheduler is told its steps, after it has stepped before; what it
            returns is called in the place of the scheduler's method, unless it is None.
    """

    def __init__(self, target: Any) -> None:
        self.run = Run()
        self.last: dict[str, LastCall] = {}
        self.can_tell = False
        self.on_schedule: Callable[[Any], Callable[..., Any] | None] | None = None
        self.candidates = candidates(target)
        self._tensors = Tensors()
        self._numbers = itertools.count()
        self._frames = threading.local()
        self._made: dict[str, list[weakref.ref[torch.Tensor]]] = {}
        self._patches: list[Around] = []
        for path, scheduler in schedulers(target).items():
            self._around(scheduler, "step", functools.partial(self._step, path))
            if callable(getattr(scheduler, "set_timesteps", None)):
                self.can_tell = True
                told = functools.partial(self._set, path, scheduler)
                self._around(scheduler, "set_timesteps", told)
        around = {path: module for item in self.candidates for path, module in item.around}
        for path, module in around.items():
            reader = Reader(module)
            self._around(module, "forward", functools.partial(self._forward, path, reader))
        for item in self.candidates:
            for index, block in enumerate(item.holder):
                told = functools.partial(self._block, item, index, Reader(block), block)
                self._around(block, "forward", told)

    def _around(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        self._patches.append(Around(owner, name, around))

    def __enter__(self) -> Watch:
        for patch in self._patches:
            patch.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for patch in reversed(self._patches):
            patch.remove()
        self._made.clear()
        self.last.clear()

    def _step(self, path: str, inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        output = inner(*args, **kwargs)
        self.run.stepped.append(path)
        stepped = [item for item in (*args, *kwargs.values()) if isinstance(item, torch.Tensor)]
        self.run.latents = max((tuple(item.shape) for item in stepped), key=len, default=None)
        return output

    def _set(
        self, path: str, scheduler: Any, inner: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        if self.on_schedule is not None and path in self.run.stepped:
            inner = self.on_schedule(scheduler) or inner
        self.run.schedules.append(path)
        return inner(*args, **kwargs)

    def _forward(
        self,
        path: str,
        reader: Reader,
        inner: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        frame = Forward(path, len(self.run.stepped), len(self.run.schedules))
        for name, value in reader.named(args, kwargs).items():
            if value is None or isinstance(value, (str, bool, int, float)):
                frame.literals[name] = value
            if not isinstance(value, bool) and (found := _moment(value)) is not None:
                frame.moments[name] = found
        frame.taken = self._tensors.inside([args, kwargs])
        self.run.forwards.append(frame)
        frames: list[Forward] = self._frames.__dict__.setdefault("stack", [])
        frames.append(frame)
        try:
            output = inner(*args, **kwargs)
            frame.given = self._tensors.inside(output)
            if not getattr(self._frames, "blocks", 0):  # or it would keep what a block returned
                self.last[path] = LastCall(reader, args, kwargs)
            return output
        finally:
            frames.pop()
            frame.end = len(self.run.stepped)

    def _block(
        self,
        blocks: Candidate,
        index: int,
        reader: Reader,
        block: torch.nn.Module,
        inner: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        named, number = reader.named(args, kwargs), next(self._numbers)
        kept = self._still_held(blocks.path, index, named)
        tensors = {
            name: self._argument(value, index == 0)
            for name, value in named.items()
            if isinstance(value, torch.Tensor)
        }
        before = {name: versions(value) for name, value in named.items()}
        own = own_state(block)
        self._frames.blocks = getattr(self._frames, "blocks", 0) + 1
        try:
            output = inner(*args, **kwargs)
        finally:
            self._frames.blocks -= 1
        places, form = _places(output)
        results = {
            place: self._result(value, named, Origin(blocks.path, index, place))
            for place, value in places.items()
        }
        returned = {id(value) for value in places.values()}
        writes = [
            name
            for name, value in named.items()
            if id(value) not in returned and versions(value) != before[name]
        ]
        writes += [
            f"its own {name}"
            for name, seen in own_state(block).items()
            if own.get(name, seen) != seen
        ]
        others = tuple(
            name
            for name, value in named.items()
            if not isinstance(value, (torch.Tensor, str, bool, int, float)) and value is not None
        )
        call = BlockCall(index, number, tensors, others, form, results, tuple(writes), kept)
        for frame in getattr(self._frames, "stack", ()):
            frame.calls.setdefault(blocks.path, []).append(call)
        return output

    def _argument(self, value: torch.Tensor, first: bool) -> Argument:
        mark = sample(value) if first else ()
        origin = self._tensors.origin(value)
        return Argument(self._tensors.token(value), tuple(value.shape), origin, mark)

    def _result(self, value: Any, named: Mapping[str, Any], origin: Origin) -> Result:
        passes = next((name for name, item in named.items() if item is value), None)
        if not isinstance(value, torch.Tensor):
            return Result(None, passes if value is not None else None)
        reference = self._tensors.made(value, origin)
        self.run.gradients |= value.requires_grad
        if passes is None:
            self._made.setdefault(origin.blocks, []).append(reference)
        return Result(tuple(value.shape), passes)

    def _still_held(self, path: str, index: int, named: Mapping[str, Any]) -> tuple[int, ...]:
        """The blocks before the last one whose output is held, and is no argument now."""
        if index == 0:
            self._made[path] = []
            return ()
        given = {id(item) for item in named.values()}
        found = set()
        for reference in self._made.get(path, []):
            tensor = reference()
            if tensor is not None and id(tensor) not in given:
                origin = self._tensors.origin(tensor)
                if origin is not None and origin.index < index - 1:
                    found.add(origin.index)
        return tuple(sorted(found))


class Reader:
    """Gives the arguments of calls their names."""

    def __init__(self, module: torch.nn.Module) -> None:
        try:
            parameters = parameters_of(plain_forward(module))
        except (TypeError, ValueError):
            parameters = {}
        self._places = [
            name
            for name, item in parameters.items()
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


def _moment(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and (
        value.ndim > _DIMENSIONS or value.numel() > _ELEMENTS or value.dtype == torch.bool
    ):
        return None
    return moment(value)


def _places(output: Any) -> tuple[dict[str, Any], Any]:
    """The entries of an output, and its form."""
    if isinstance(output, torch.Tensor):
        return {"": output}, "tensor"
    form = "sequence" if isinstance(output, (tuple, list)) else "fields"
    return dict(entries(output)), form
