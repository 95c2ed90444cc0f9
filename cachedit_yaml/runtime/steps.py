"""Requests that an engine runs step by step: it counts the steps, and others run in between."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

    from cachedit_yaml.runtime.clock import Clock
    from cachedit_yaml.runtime.generation import Generation


class Stepwise:
    """One generation whose steps the caller counts.

    It goes with this object: a request that an engine forgets keeps no buffer.

    Attributes:
        clock: whose generation it is.
        generation: what is cached, and what was done.
    """

    def __init__(self, clock: Clock, generation: Generation) -> None:
        self.clock = clock
        self.generation = generation
        self._gone = weakref.finalize(self, generation.end, "its request is gone")
        self._gone.atexit = False

    @contextmanager
    def step(self) -> Iterator[None]:
        """The forwards of one step: every forward of this thread belongs to it.

        What raises here ends the generation; what is left of it runs uncached.
        """
        with _steps(self.clock, Shared([(self.generation, 0)])):
            yield

    @property
    def blocks(self) -> tuple[tuple[int, int], ...]:
        """F and B of each block list; with others, requests cannot share a forward."""
        found = [
            self.generation.layers(transformer.path, item).resolve(self.generation.total)
            for transformer in self.clock.plan.transformers
            for item in transformer.lists
        ]
        return tuple((item.fn, item.bn) for item in found)

    def end(self, why: str = "its request ended") -> None:
        """It is over, however far it came: every cached tensor goes."""
        self.generation.end(why)


class Padded(NamedTuple):
    """A sequence that is as long as the longest one of a batch, under a mask.

    Attributes:
        tensors: the tensors that carry it, ``[b x s ...]``, as they go into the forward.
        lengths: how much of it is each request's own.
    """

    tensors: Sequence[torch.Tensor]
    lengths: Sequence[int]


class Shared:
    """What runs in one forward: one generation, or several whose rows lie one behind the other.

    Attributes:
        parts: the generations, each with its rows of the latents.
        padded: the sequences of the batch that are padded.
        by_place: guidance branches are told apart by their names and places in the step; the
            tensors of a batch say nothing of one request.
        refused: why each needs a forward of its own; None while they can share one.
    """

    def __init__(
        self,
        parts: Sequence[tuple[Generation, int]],
        padded: Sequence[Padded] = (),
        *,
        by_place: bool = False,
    ) -> None:
        self.parts = parts
        self.padded = padded
        self.by_place = by_place
        self.refused: str | None = None

    @property
    def rows(self) -> int:
        """Rows of the latents, of all together."""
        return sum(rows for _, rows in self.parts)

    def padding(self, arguments: Mapping[str, Any]) -> tuple[int, Sequence[int]] | None:
        """How long a padded sequence among the arguments of a forward is, and what is whose own."""
        for padded in self.padded:
            for value in arguments.values():
                if any(value is tensor for tensor in padded.tensors):
                    return padded.tensors[0].shape[1], padded.lengths
        return None


@contextmanager
def together(
    parts: Sequence[tuple[Stepwise, int]], padded: Sequence[Padded] = ()
) -> Iterator[Shared]:
    """The forwards of one step of several requests, each of which is at a step of its own.

    What raises here ends the generations of all of them.

    Args:
        parts: the requests, each with its rows of the latents; in the order of the rows.
        padded: the sequences of the batch that are padded.
    """
    shared = Shared([(item.generation, rows) for item, rows in parts], padded, by_place=True)
    with _steps(parts[0][0].clock, shared):
        yield shared


@contextmanager
def _steps(clock: Clock, shared: Shared) -> Iterator[None]:
    with clock.driven.by(shared):
        try:
            yield
        except BaseException:
            for generation, _ in shared.parts:
                clock.fail(generation)
            raise
    for generation, _ in shared.parts:
        generation.end_step()


class Driven:
    """The generations whose steps callers count, and those that each thread is in."""

    def __init__(self) -> None:
        self._all: weakref.WeakSet[Generation] = weakref.WeakSet()
        self._here = threading.local()

    def add(self, generation: Generation) -> None:
        """One more has begun."""
        self._all.add(generation)

    @property
    def current(self) -> Shared | None:
        """What this thread's forwards belong to; None where nobody says."""
        found: Shared | None = getattr(self._here, "shared", None)
        return found

    @contextmanager
    def by(self, shared: Shared) -> Iterator[None]:
        """This thread's forwards belong to these generations."""
        before = self.current
        self._here.shared = shared
        try:
            yield
        finally:
            self._here.shared = before

    def of(self, name: str | None) -> list[Generation]:
        """Those that go on, of a request; of all for None."""
        return [item for item in self._all if item.ended is None and name in (None, item.what)]
