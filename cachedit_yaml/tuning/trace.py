"""One uncached generation, and at each of its steps what older residuals would have made of it.

Every forward runs as it is. Then it runs again with its middle blocks replaced by what they added
some steps earlier, which costs F + B blocks and what lies outside the lists, and the difference of
its output is kept at some places. A forecast from two older steps is a sum of two residuals, and so
is, nearly, its difference: nothing has to run for it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from cachedit_yaml.compiler.plan import TransformerPlan
from cachedit_yaml.compiler.settings import Resolved
from cachedit_yaml.runtime.blocks import ListRunner
from cachedit_yaml.runtime.buffers import BranchState
from cachedit_yaml.runtime.clock import Clock
from cachedit_yaml.runtime.generation import Generation
from cachedit_yaml.runtime.loop import LoopExecution
from cachedit_yaml.runtime.passes import ListPass
from cachedit_yaml.runtime.rows import DeviationError
from cachedit_yaml.runtime.transformer import TransformerRunner
from cachedit_yaml.runtime.turns import Turn
from cachedit_yaml.tuning.residuals import (
    REACH,
    RINGS,
    Ring,
    TracePass,
    TraceState,
    between,
    difference,
    store,
)

#: F and B that are tried, and those that are tried too where they cost little.
VARIANTS: Final = ((0, 0), (1, 0))
MORE: Final = ((1, 1), (2, 0))
#: Distances to older steps that are tried, and those of the further F and B; others are
#: interpolated.
DISTANCES: Final = (1, 2, 3, 4, 6, 8, 11, 15, REACH)
FEW: Final = (1, 3, 7, 15)
#: What the further F and B may cost, in forwards for each forward.
_COST: Final = 0.75
#: At so many places of an output its error is kept, for each sample.
PLACES: Final = 256


@dataclass
class Forward:
    """One forward of a transformer.

    Attributes:
        transformer: its path.
        branch: its guidance branch.
        step: index within the transformer's share.
        output: what it put out, ``[b x ...]``.
        blocks: how many blocks each list has.
        lists: their paths.
        leaders: for each list the place of the one that decides for it.
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
    lists: tuple[str, ...]
    leaders: tuple[int, ...]
    differences: dict[tuple[int, int], tuple[float, ...]] = field(default_factory=dict)
    errors: dict[tuple[int, int, int], torch.Tensor] = field(default_factory=dict)


class TraceRunner(TransformerRunner):
    """Runs a transformer's forwards once as they are, and again with older residuals.

    Attributes:
        tell: is told each forward, with the generation that it belongs to.
        variants: F and B to try, for lists that have more blocks.
        ring: where older residuals lie.
    """

    branch_state = TraceState

    def __init__(self, plan: TransformerPlan, clock: Clock, together: Any = None) -> None:
        super().__init__(plan, clock, together)
        self.tell: Callable[[Forward, Generation], None] = lambda forward, generation: None
        blocks = [len(runner.hooks) for runner in self.lists]
        self.variants = [(fn, bn) for fn, bn in VARIANTS if fn + bn < min(blocks)]
        cost = 0.0
        for fn, bn in MORE:
            own = len(FEW) * (fn + bn) * len(blocks) / sum(blocks)
            if fn + bn < min(blocks) and cost + own <= _COST:
                cost += own
                self.variants.append((fn, bn))
        self.ring: Ring = RINGS[0]
        self._now, self._plain = (0, 0), True
        self._touched: list[TraceState] = []
        self._generation: Any = None

    def _branch(
        self, turn: Turn, runner: ListRunner, again: int
    ) -> tuple[BranchState, BranchState]:
        found, primary = super()._branch(turn, runner, again)
        assert isinstance(found, TraceState)
        self._generation = turn.generation
        if found.branch is None:
            found.branch, found.blocks = turn.branch, len(runner.hooks)
            found.added, found.older = {}, deque(maxlen=self.ring.reach)
        fn, bn = self._own(runner.plan.path, *self._now)
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
            paths := tuple(str(state.manager.name) for state in states),
            tuple(self._leader(at, paths) for at in range(len(paths))),
        )
        reach = min(len(state.older) for state in states)
        # The oldest too: nothing lies behind it to interpolate with.
        for distance in sorted({*(item for item in DISTANCES if item <= reach), reach} - {0}):
            older = [state.older[-distance] for state in states]
            for fn in {fn for fn, _ in self.variants if fn}:
                pairs = zip(states, older, strict=True)  # of a list that follows, nobody asks
                values = [
                    difference(state.added.get(fn), then.get(fn), state.layout)
                    for state, then in pairs
                ]
                found.differences[fn, distance] = tuple(values)
            for fn, bn in self.variants:
                if (fn, bn) in MORE and distance not in {*FEW, reach}:
                    continue
                for state, then, path in zip(states, older, found.lists, strict=True):
                    first, last = self._own(path, fn, bn)
                    state.forecast = between(then, first, state.blocks - last, state.added)
                if all(state.forecast is not None for state in states):
                    self._now, self._plain = (fn, bn), False
                    self._try(found, distance, lambda: self._run(inner, args, kwargs, passes))
                    self._now, self._plain = (0, 0), True
                for state in states:
                    state.forecast = None
        store(states, self.ring)
        self.tell(found, self._generation)
        return output

    def _own(self, path: str, fn: int, bn: int) -> tuple[int, int]:
        """F and B of a list: those that follow another run none of the first, and the last of them
        runs the last ones."""
        runner = next(item for item in self.lists if item.plan.path == path)
        return fn if runner.leader is None else 0, bn if runner.group[-1] is runner else 0

    def _leader(self, at: int, paths: Sequence[str]) -> int:
        """The place of the list that decides for one."""
        leader = next(item for item in self.lists if item.plan.path == paths[at]).leader
        return at if leader is None else paths.index(leader.plan.path)

    def _try(self, found: Forward, distance: int, run: Callable[[], Any]) -> None:
        """Keep how far the output is off with the forecasts that are set."""
        called = [state.called for state in self._touched]
        for state, path in zip(self._touched, found.lists, strict=True):
            fn, bn = self._own(path, *self._now)
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
        fn, bn = self._now
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
