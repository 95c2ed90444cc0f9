"""What the blocks of a list added in a step, and in some steps before it.

A state keeps it, a pass collects it while the blocks run, and puts an older one in their place
where that is to be tried.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple

import torch

from cachedit_yaml.runtime.buffers import BranchState
from cachedit_yaml.runtime.contexts import BranchContext
from cachedit_yaml.runtime.passes import ListPass
from cachedit_yaml.runtime.residuals import signature_of
from cachedit_yaml.runtime.samples import Layout

#: How many earlier steps are kept.
REACH: Final = 20


class Ring(NamedTuple):
    """Where older residuals lie.

    Attributes:
        text: the same for people.
        on_device: bytes that may stay on the device of the model.
        in_memory: bytes that may lie in the CPU's memory; more of them go to the disk.
        reach: how many earlier steps are kept.
    """

    text: str
    on_device: int = 2 * 2**30
    in_memory: int = 16 * 2**30
    reach: int = REACH


#: What is tried one after the other, where memory does not suffice.
RINGS: Final = (
    Ring("on the device as far as 2 GiB go"),
    Ring("in the CPU's memory", on_device=0),
    Ring("on the disk", on_device=0, in_memory=0),
    Ring("on the disk, of 6 steps only", on_device=0, in_memory=0, reach=6),
)

#: What the blocks up to some place have added, to the hidden states and the others (or None).
Added = tuple[torch.Tensor, "torch.Tensor | None"]


class TraceState(BranchState):
    """Keeps what the blocks of one list added, and puts older ones in their place on demand.

    Attributes:
        branch: the guidance branch; None until the first forward.
        blocks: how many blocks the list has.
        added: what the first k blocks added in this step, by k.
        older: the same of earlier steps, the last one last.
        forecast: what stands in for the middle blocks now; None while they run.
    """

    branch: str | None = None
    blocks: int
    added: dict[int, Added]
    older: deque[dict[int, Added]]
    forecast: Added | None = None

    def begin_step(self, step: int, place: int = 0) -> None:
        """Count no step twice."""
        if step != self.last_step:
            super().begin_step(step, place)

    def can_hit(self, residual: torch.Tensor, ranks: Any, primary: BranchContext) -> bool:
        """A step hits where a forecast is to be tried."""
        return self.forecast is not None

    def apart(self, shape: torch.Size) -> bool:
        """All samples of a batch are tried together."""
        return False

    def mask_hits(self) -> bool:
        """As `can_hit`."""
        return self.forecast is not None

    def mark_hit(self) -> None:
        """Nobody counts it."""

    def remember_residual(self, residual: torch.Tensor, split: Any = None) -> None:
        """`TracePass` keeps it."""

    def store(self, *given: Any) -> None:
        """Keep what all blocks added."""
        hidden_in, hidden_out, encoder_in, encoder_out = given[:4]
        self.added[self.blocks] = found = _added((hidden_in, encoder_in), hidden_out, encoder_out)
        self.has_encoder = found[1] is not None
        signature = signature_of(hidden_in, encoder_in if self.has_encoder else None)
        if signature != self.signature:
            self.older.clear()
        self.signature = signature

    def apply(
        self, hidden: torch.Tensor, encoder: torch.Tensor | None, split: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Add the forecast."""
        assert self.forecast is not None
        first, second = self.forecast
        other = encoder if second is None or encoder is None else encoder + second
        return hidden + first, other

    def release(self) -> None:
        """Drop every tensor."""
        super().release()
        if self.branch is not None:
            self.older.clear()
            self.added = {}


class TracePass(ListPass):
    """A pass that also keeps what the blocks up to some places have added."""

    __slots__ = ("before", "places", "watches")

    def __init__(self, running: ListPass, places: Collection[int], watches: bool) -> None:
        super().__init__(running.runner, running.step, running.begin, running.place)
        self.places = places
        self.watches = watches
        self.before: Any = None

    def call(
        self, index: int, inner: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Stand in for block ``index``."""
        if index == 0 and self.watches:
            binding = self.runner.plan.binding
            encoder = binding.encoder.get(args, kwargs) if binding.encoder else None
            if not isinstance(encoder, torch.Tensor) or not self.keeps_encoder:
                encoder = None
            hidden = self.keep(binding.hidden.get(args, kwargs))
            self.before = hidden, None if encoder is None else self.keep(encoder)
        output = super().call(index, inner, args, kwargs)
        state = self.branch
        if self.before is not None and index + 1 in self.places and isinstance(state, TraceState):
            state.added[index + 1] = _added(self.before, *self.runner.split(output))
        return output


def _added(before: Added, hidden: torch.Tensor, encoder: Any) -> Added:
    first, second = before
    if second is None or not isinstance(encoder, torch.Tensor) or encoder.shape != second.shape:
        return hidden - first, None
    return hidden - first, encoder - second


def store(states: Sequence[TraceState], ring: Ring) -> None:
    """Move this step's residuals behind the older ones; the oldest go.

    Args:
        states: of the lists of one forward.
        ring: where they lie.
    """
    pairs = [pair for state in states for pair in state.added.values()]
    size = ring.reach * sum(
        tensor.nbytes for pair in pairs for tensor in pair if tensor is not None
    )
    if size > ring.on_device:
        away = _on_disk if size > ring.in_memory else torch.Tensor.cpu
        for state in states:
            for k, (first, second) in state.added.items():
                state.added[k] = away(first), None if second is None else away(second)
    for state in states:
        state.older.append(state.added)


def _on_disk(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of a tensor in a file that goes when nobody holds it any more.

    Raises:
        OSError: the disk is full; found out here, since writing to such a file ends the process.
    """
    handle, name = tempfile.mkstemp(prefix="cachedit-residual-")
    try:
        if tensor.nbytes and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle, 0, tensor.nbytes)
        os.close(handle)
        made = torch.from_file(name, shared=True, size=tensor.numel(), dtype=tensor.dtype)
    finally:
        os.unlink(name)
    return made.view(tensor.shape).copy_(tensor)


def difference(now: Added | None, then: Added | None, layout: Layout | None = None) -> float:
    """The relative difference of what the first F blocks added, as a sample of a batch decides.

    A row and the one half a batch behind it are taken for guidance's two branches of one sample,
    which decide by the worse of theirs; of several samples this is the mean.

    Args:
        now: in this step.
        then: in an earlier one.
        layout: the rows of the batch; None for one.
    """
    if now is None or then is None:
        return math.inf
    added, before = now[0], then[0].to(now[0].device)
    by_row = layout is not None and layout.axis(added.shape) == 0
    rows = layout.count if layout is not None and by_row else 1
    apart = (before - added).abs().reshape(rows, -1).mean(1)
    found = apart / before.abs().reshape(rows, -1).mean(1)
    if rows % 2 == 0:
        found = found.reshape(2, -1).amax(0)
    return float(found.mean())


def between(added: dict[int, Added], first: int, end: int, like: dict[int, Added]) -> Added | None:
    """What the blocks from ``first`` to ``end`` added; None where it was not kept."""
    if end not in added or (first and first not in added):
        return None
    device = like[max(like)][0].device
    hidden, encoder = (None if item is None else item.to(device) for item in added[end])
    assert hidden is not None
    if first:
        less = added[first]
        hidden = hidden - less[0].to(device)
        if encoder is not None and less[1] is not None:
            encoder = encoder - less[1].to(device)
    return hidden, encoder
