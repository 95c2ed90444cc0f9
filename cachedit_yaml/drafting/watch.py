"""Watch one call of a pipeline: what its schedulers, models and blocks are given and return."""

from __future__ import annotations

import functools
import itertools
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch

from cachedit_yaml.drafting.calls import LastCall, Reader, Turn, moment_of, places_of
from cachedit_yaml.drafting.marks import Tensors, own_state, sample, tensors_in, versions
from cachedit_yaml.drafting.parts import Candidate, candidates, schedulers
from cachedit_yaml.drafting.record import Argument, BlockCall, Forward, Origin, Result, Run
from cachedit_yaml.drafting.steps import NAMES
from cachedit_yaml.runtime.patching import Around, Patched

#: Calls of blocks that are recorded of a generation whose end nobody tells.
MOST_CALLS: Final = 1 << 15


class Watch(Patched):
    """Records what runs, for as long as it is entered; then everything is as before.

    Args:
        target: a pipeline, or a transformer alone.

    Attributes:
        run: what was recorded.
        candidates: the block lists that are looked at.
        last: the last call of each module that holds block lists.
        can_tell: whether a scheduler tells where a generation begins.
        announced: somebody says that a generation begins with the next call.
        failed: a call in it raised something, so that its generation ended early.
        on_over: called when the generation that was watched is over, and another one begins; or
            with a reason, when nothing has told so for too long. It ends the watch.
    """

    def __init__(self, target: Any) -> None:
        super().__init__()
        self.run = Run()
        self.last: dict[str, LastCall] = {}
        self.can_tell = False
        self.announced = False
        self.failed = False
        self.on_over: Callable[[str | None], None] | None = None
        self.candidates = candidates(target)
        self._tensors = Tensors()
        self._numbers = itertools.count()
        self._frames = threading.local()
        self._made: dict[str, list[weakref.ref[torch.Tensor]]] = {}
        self._turns: dict[str, Turn] = {}
        self._blocks = 0
        self._inside: set[int] = set()
        self._left = threading.Condition()
        for path, scheduler in schedulers(target).items():
            self._around(scheduler, "step", functools.partial(self._step, path))
            if callable(getattr(scheduler, "set_timesteps", None)):
                self.can_tell = True
                told = functools.partial(self._set, path, scheduler)
                self._around(scheduler, "set_timesteps", told)
        around = {path: module for item in self.candidates for path, module in item.around}
        for path, module in around.items():
            told = functools.partial(self._forward, path, Reader(module), weakref.ref(module))
            self._around(module, "forward", told)
        for item in self.candidates:
            for index, block in enumerate(item.holder):
                told = functools.partial(self._block, item, index, Reader(block), block)
                self._around(block, "forward", told)

    def _around(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        self._patches.append(Around(owner, name, around))

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self._made.clear()
        self.last.clear()

    def _step(self, path: str, inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            output = inner(*args, **kwargs)
        except BaseException:
            self.failed = True
            raise
        self.run.stepped.append(path)
        stepped = [item for item in (*args, *kwargs.values()) if isinstance(item, torch.Tensor)]
        self.run.latents = max((tuple(item.shape) for item in stepped), key=len, default=None)
        return output

    def _set(
        self, path: str, scheduler: Any, inner: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        over = path in self.run.stepped or self._turned() or self.failed
        if self.on_over is not None and over:
            self.on_over(None)
            return scheduler.set_timesteps(*args, **kwargs)  # as it is now
        self.run.schedules.append(path)
        return inner(*args, **kwargs)

    def _turned(self) -> bool:
        """Whether some steps have been seen, though no scheduler has stepped: it was copied."""
        return not self.run.stepped and any(item.values > 1 for item in self._turns.values())

    def _over(self, frame: Forward, path: str) -> bool:
        """Whether another generation begins with a call, or nothing tells any more."""
        if self.on_over is None:
            return False
        if self._blocks > MOST_CALLS:
            self.on_over(
                f"nothing told in {MOST_CALLS:,} calls of blocks where its first generation ends: "
                "its scheduler was replaced or copied after the watch began, and no timestep goes "
                "back to the first; write its adapter with cachedit_yaml.infer() or "
                "`cachedit-yaml init`"
            )
            return True
        again, self.announced = self.announced and bool(self.run.forwards), False
        for name in [item for item in NAMES if item in frame.moments][:1]:
            turn = self._turns.setdefault(path, Turn())
            again = turn.begins_again(frame.moments[name].largest) or again
        if again:
            self.on_over(None)
            return True
        return False

    def _forward(
        self,
        path: str,
        reader: Reader,
        module: weakref.ref[torch.nn.Module],
        inner: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        frame = Forward(path, len(self.run.stepped), len(self.run.schedules))
        for name, value in reader.named(args, kwargs).items():
            if value is None or isinstance(value, (str, bool, int, float)):
                frame.literals[name] = value
            if not isinstance(value, bool) and (found := moment_of(name, value)) is not None:
                frame.moments[name] = found
        frames: list[Forward] = self._frames.__dict__.setdefault("stack", [])
        owner = module()
        if not frames and owner is not None and self._over(frame, path):
            return owner.forward(*args, **kwargs)  # as it is now
        frame.taken = self._tensors.inside([args, kwargs])
        self.run.forwards.append(frame)
        frames.append(frame)
        self._inside.add(threading.get_ident())
        try:
            output = inner(*args, **kwargs)
            frame.given = self._tensors.inside(output)
            frame.stashed = self._stashed(path, output)
            if not getattr(self._frames, "blocks", 0):
                self.last[path] = self._last_call(reader, args, kwargs)
            return output
        except BaseException:  # what it has not done says nothing
            self.failed = True
            self.run.forwards = [item for item in self.run.forwards if item is not frame]
            raise
        finally:
            frames.pop()
            frame.end = len(self.run.stepped)
            if not frames:
                with self._left:
                    self._inside.discard(threading.get_ident())
                    self._left.notify_all()

    def wait_for_others(self) -> None:
        """Return when no other thread is in a forward that is watched."""
        with self._left:
            self._left.wait_for(lambda: not self._inside - {threading.get_ident()})

    def _last_call(
        self, reader: Reader, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> LastCall:
        """The call, with copies of what blocks have returned: their outputs are not held here."""

        def free(value: Any) -> Any:
            made = isinstance(value, torch.Tensor) and self._tensors.origin(value) is not None
            return value.detach().clone() if made else value

        return LastCall(
            reader, tuple(map(free, args)), {name: free(item) for name, item in kwargs.items()}
        )

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
        self._blocks = number
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
        places, form = places_of(output)
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

    def _stashed(self, path: str, output: Any) -> bool:
        """Whether outputs of a module's blocks live on, and not in what it has returned."""
        returned = {id(item) for item in tensors_in(output)}
        made = [items for blocks, items in self._made.items() if blocks.startswith(path)]
        alive = (reference() for items in made for reference in items)
        return any(item is not None and id(item) not in returned for item in alive)

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
