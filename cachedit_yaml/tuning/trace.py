"""One uncached generation, and at each of its steps what older residuals would have made of it.

Every forward runs as it is. Then it runs again with its middle blocks replaced by what they added
some steps earlier, which costs F + B blocks and what lies outside the lists, and the difference of
its output is kept at some places. A forecast from two older steps is a sum of two residuals, and so
is, nearly, its difference: nothing has to run for it.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from cachedit_yaml.compiler.plan import TransformerPlan
from cachedit_yaml.compiler.settings import Resolved
from cachedit_yaml.runtime.blocks import ListRunner
from cachedit_yaml.runtime.clock import Clock
from cachedit_yaml.runtime.contexts import BranchState
from cachedit_yaml.runtime.generation import Generation
from cachedit_yaml.runtime.loop import LoopExecution
from cachedit_yaml.runtime.passes import DeviationError, ListPass
from cachedit_yaml.runtime.residuals import signature_of
from cachedit_yaml.runtime.transformer import TransformerRunner, TransformerState

#: F and B that are tried.
VARIANTS: Final = ((0, 0), (1, 0))
#: Distances to older steps that are tried; others are interpolated.
DISTANCES: Final = (1, 2, 3, 4, 6, 8, 11, 15, 20)
#: At so many places of an output its error is kept, for each sample.
PLACES: Final = 256
#: Memory for older residuals on the device of the model, and on the CPU, in bytes; more of them go
#: to the disk.
ON_DEVICE: Final = 2 * 2**30
IN_MEMORY: Final = 16 * 2**30

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

    def can_hit(self, residual: torch.Tensor, ranks: Any, primary: BranchState) -> bool:
        """A step hits where a forecast is to be tried."""
        return self.forecast is not None

    def mask_hits(self) -> bool:
        """As `can_hit`."""
        return self.forecast is not None

    def mark_hit(self) -> None:
        """Nobody counts it."""

    def remember_residual(self, residual: torch.Tensor) -> None:
        """`TracePass` keeps it."""

    def store(
        self,
        hidden_in: torch.Tensor,
        hidden_out: torch.Tensor,
        encoder_in: torch.Tensor | None,
        encoder_out: torch.Tensor | None,
    ) -> None:
        """Keep what all blocks added."""
        self.added[self.blocks] = found = _added((hidden_in, encoder_in), hidden_out, encoder_out)
        self.has_encoder = found[1] is not None
        signature = signature_of(hidden_in, encoder_in if self.has_encoder else None)
        if signature != self.signature:
            self.older.clear()
        self.signature = signature

    def apply(
        self, hidden: torch.Tensor, encoder: torch.Tensor | None
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
            if not isinstance(encoder, torch.Tensor) or not self._keeps_encoder:
                encoder = None
            hidden = self._keep(binding.hidden.get(args, kwargs))
            self.before = hidden, None if encoder is None else self._keep(encoder)
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


@dataclass
class Forward:
    """One forward of a transformer.

    Attributes:
        transformer: its path.
        branch: its guidance branch.
        step: index within the transformer's share.
        output: what it put out, ``[b x ...]``.
        blocks: how many blocks each list has.
        differences: relative difference of the residual of the first F blocks of each list to
            that of so many forwards earlier, by F and distance.
        errors: the transformer's output with older residuals, less the true one, at the places
            that were chosen, ``[b x p]``; by F, B and distance.
    """

    transformer: str
    branch: str
    step: int
    output: torch.Tensor
    blocks: tuple[int, ...]
    differences: dict[tuple[int, int], tuple[float, ...]] = field(default_factory=dict)
    errors: dict[tuple[int, int, int], torch.Tensor] = field(default_factory=dict)


class TraceRunner(TransformerRunner):
    """Runs a transformer's forwards once as they are, and again with older residuals.

    Attributes:
        tell: is told each forward, with the generation that it belongs to.
        variants: F and B to try, for lists that have more blocks.
        room: bytes of older residuals that may stay on the device.
    """

    branch_state = TraceState

    def __init__(self, plan: TransformerPlan, clock: Clock, together: Any = None) -> None:
        super().__init__(plan, clock, together)
        self.tell: Callable[[Forward, Generation], None] = lambda forward, generation: None
        least = min(len(runner.hooks) for runner in self.lists)
        self.variants = [(fn, bn) for fn, bn in VARIANTS if fn + bn < least]
        self.room = ON_DEVICE
        self._now, self._plain = (0, 0), True
        self._touched: list[TraceState] = []
        self._generation: Any = None

    def _branch(
        self,
        generation: Generation,
        state: TransformerState,
        runner: ListRunner,
        branch: str,
        turn: int,
    ) -> tuple[BranchState, BranchState]:
        found, primary = super()._branch(generation, state, runner, branch, turn)
        assert isinstance(found, TraceState)
        self._generation = generation
        if found.branch is None:
            found.branch, found.blocks = branch, len(runner.hooks)
            found.added, found.older = {}, deque(maxlen=max(DISTANCES))
        fn, bn = self._now
        blocks = {"Fn_compute_blocks": fn, "Bn_compute_blocks": bn}
        found.resolved = Resolved({**found.resolved.values, **blocks}, found.resolved.origins)
        if found not in self._touched:
            self._touched.append(found)
        return found, primary

    def forward(self, inner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one forward, and try older residuals on it."""
        return super().forward(lambda *a, **k: self._explore(inner, a, k), args, kwargs)

    def _explore(self, inner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        passes = [runner.running for runner in self.lists if runner.running is not None]
        if not passes:
            return inner(*args, **kwargs)
        for state in self._touched:
            state.added = {}
        self._touched = []
        output = self._run(inner, args, kwargs, passes)
        states = list(self._touched)
        complete = states and all(state.blocks in state.added for state in states)
        if not complete or any(state.unfit for state in states):
            return output
        found = Forward(
            self.plan.path,
            str(states[0].branch),
            passes[0].step,
            predicted(self.plan.module, output),
            tuple(state.blocks for state in states),
        )
        reach = min(len(state.older) for state in states)
        # The oldest too: nothing lies behind it to interpolate with.
        for distance in sorted({*(item for item in DISTANCES if item <= reach), reach} - {0}):
            older = [state.older[-distance] for state in states]
            for fn in {fn for fn, _ in self.variants if fn}:
                pairs = zip(states, older, strict=True)
                values = [_difference(state.added.get(fn), then.get(fn)) for state, then in pairs]
                found.differences[fn, distance] = tuple(values)
            for fn, bn in self.variants:
                for state, then in zip(states, older, strict=True):
                    state.forecast = _between(then, fn, state.blocks - bn, state.added)
                if all(state.forecast is not None for state in states):
                    self._now, self._plain = (fn, bn), False
                    self._try(found, distance, lambda: self._run(inner, args, kwargs, passes))
                    self._now, self._plain = (0, 0), True
                for state in states:
                    state.forecast = None
        self._keep(states)
        self.tell(found, self._generation)
        return output

    def _try(self, found: Forward, distance: int, run: Callable[[], Any]) -> None:
        """Keep how far the output is off with the forecasts that are set."""
        called = [state.called for state in self._touched]
        fn, bn = self._now
        for state in self._touched:
            # The blocks between, of those that the loop called.
            state.called &= (1 << (state.blocks - bn)) - (1 << fn)
            state.last_middle = state.called.bit_length() - 1
        try:
            tried = predicted(self.plan.module, run())
        except DeviationError:
            return
        finally:
            for state, before in zip(self._touched, called, strict=True):
                state.called = before
        error = at_places(tried) - at_places(found.output)
        found.errors[fn, bn, distance] = error.float().cpu()

    def _run(
        self, inner: Any, args: tuple[Any, ...], kwargs: dict[str, Any], passes: list[ListPass]
    ) -> Any:
        """Run the forward through passes of its own, which `passes` are made like."""
        own = []
        for running in passes:
            blocks = len(running.runner.hooks)
            places = {k for fn, bn in self.variants for k in (fn, blocks - bn) if 0 < k < blocks}
            running.runner.running = TracePass(running, places, self._plain)
            own.append(running.runner.running)
        try:
            output = inner(*args, **kwargs)
            for running in own:
                if running.round >= 0:
                    running.close()
        finally:
            for running in passes:
                running.runner.running = running
        return output

    def _keep(self, states: list[TraceState]) -> None:
        """Move this step's residuals behind the older ones; the oldest go."""
        pairs = [pair for state in states for pair in state.added.values()]
        size = sum(tensor.nbytes for pair in pairs for tensor in pair if tensor is not None)
        if size * max(DISTANCES) > self.room:
            away = _on_disk if size * max(DISTANCES) > IN_MEMORY else torch.Tensor.cpu
            for state in states:
                for k, (first, second) in state.added.items():
                    state.added[k] = away(first), None if second is None else away(second)
        for state in states:
            state.older.append(state.added)


class TraceExecution(LoopExecution):
    """The hooked loop, whose transformers run with older residuals too."""

    runner = TraceRunner


def predicted(module: torch.nn.Module, output: Any) -> torch.Tensor:
    """The prediction in what a transformer put out, ``[b x ...]``: without a learned variance."""
    found = output
    while not isinstance(found, torch.Tensor):
        values = found.values() if isinstance(found, Mapping) else found
        found = next(item for item in values if item is not None)
    config = getattr(module, "config", {})
    channels = config.get("in_channels"), config.get("out_channels")
    if channels[0] and channels[1] == 2 * channels[0] == (found.shape[1:2] or [0])[0]:
        found = found[:, : channels[0]]
    return found


def at_places(output: torch.Tensor) -> torch.Tensor:
    """An output at some places, always the same, ``[b x p]``."""
    flat = output.flatten(1) if output.ndim > 1 else output[None]
    size = flat.shape[1]
    if size <= PLACES:
        return flat
    places = torch.randperm(size, generator=torch.Generator().manual_seed(size))[:PLACES]
    return flat[:, places.to(flat.device)] * math.sqrt(size / PLACES)


def _on_disk(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of a tensor in a file that goes when nobody holds it any more."""
    handle, name = tempfile.mkstemp(prefix="cachedit-residual-")
    os.close(handle)
    try:
        made = torch.from_file(name, shared=True, size=tensor.numel(), dtype=tensor.dtype)
    finally:
        os.unlink(name)
    return made.view(tensor.shape).copy_(tensor)


def _difference(now: Added | None, then: Added | None) -> float:
    """The relative difference that cache-dit measures, of what the first F blocks added."""
    if now is None or then is None:
        return math.inf
    before = then[0].to(now[0].device)
    return float((before - now[0]).abs().mean() / before.abs().mean())


def _between(added: dict[int, Added], first: int, end: int, like: dict[int, Added]) -> Added | None:
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
