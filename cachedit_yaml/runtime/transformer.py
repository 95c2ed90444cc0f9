"""One transformer under the hooked loop: its forwards, branches and block lists."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from cachedit_yaml.compiler.parallel import Ranks, ranks_of
from cachedit_yaml.compiler.plan import TransformerPlan
from cachedit_yaml.compiler.signature import plain_forward
from cachedit_yaml.runtime.blocks import ListRunner
from cachedit_yaml.runtime.branches import (
    BranchNames,
    Forward,
    Parameters,
    counts_as_denoising,
)
from cachedit_yaml.runtime.buffers import BranchState
from cachedit_yaml.runtime.changes import changed_blocks
from cachedit_yaml.runtime.clock import Clock
from cachedit_yaml.runtime.generation import Generation
from cachedit_yaml.runtime.identity import Traces, traces_of
from cachedit_yaml.runtime.masks import UNTOLD, build_mask
from cachedit_yaml.runtime.members import Member
from cachedit_yaml.runtime.passes import ListPass
from cachedit_yaml.runtime.patching import Patch
from cachedit_yaml.runtime.plain import is_recorded, needs_gradients
from cachedit_yaml.runtime.rows import DeviationError, TogetherError
from cachedit_yaml.runtime.samples import latents_in
from cachedit_yaml.runtime.shared import Cache, SharedBranch
from cachedit_yaml.runtime.steps import Shared
from cachedit_yaml.runtime.timesteps import Reading
from cachedit_yaml.runtime.turns import TransformerState, Turn

#: A forward that none of the pipelines known makes: more forwards than this within one step mean
#: that the clock stands still, so they run uncached.
MAX_BRANCHES = 8

OTHER_BLOCKS = "they compute other first or last blocks"
HOLDS_MORE = "its blocks keep or return more than tensors of the batch"
INTERLEAVED = "blocks of another declared list run between its own; declare one of the lists only"


class ForwardRunner(Protocol):
    """Whoever runs a transformer's forwards."""

    plan: TransformerPlan

    def forward(self, inner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one forward; ``inner`` is the plain one."""


class ForwardHook(Patch):
    """Stands in for the transformer's forward.

    Args:
        runner: runs the forwards.
        plain: what copies get, where it is not what the hook found.
    """

    def __init__(self, runner: ForwardRunner, plain: Callable[..., Any] | None = None) -> None:
        super().__init__(runner.plan.module, "forward", plain)
        self.runner = runner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Compiled as a whole after caching was enabled: the graph is that of the plain forward.
        # So is that of anything else which records what runs: a hit would become part of it.
        if not self.active or torch.compiler.is_compiling() or is_recorded():
            return self.call_inner(*args, **kwargs)
        return self.runner.forward(self.inner, args, kwargs)


class TransformerRunner:
    """Runs one transformer with its block lists cached.

    Args:
        plan: the transformer and its lists.
        clock: tells generations and steps; shared by the transformers of a pipeline.
        together: the ranks that run each forward together, as far as they are known.
    """

    branch_state = BranchState

    def __init__(self, plan: TransformerPlan, clock: Clock, together: Ranks | None = None) -> None:
        self.plan = plan
        self._together = together
        self.clock = clock
        self.lists = [ListRunner(item) for item in plan.lists]
        for runner in self.lists:
            for other in self.lists:
                if runner.plan.follows == other.plan.path:
                    runner.leader, runner.group = other, other.group
                    other.group.append(runner)
        self.names = BranchNames(plan.module)
        self._parameters = Parameters(plain_forward(plan.module))
        self._hook = ForwardHook(self)
        # One forward at a time: the hooks of the blocks serve whoever holds this.
        self._lock = threading.RLock()

    @property
    def patches(self) -> list[Patch]:
        """Everything to install, in order."""
        blocks = [hook for runner in self.lists for hook in runner.hooks]
        return [*blocks, self._hook, *self.names.patches]

    def forward(self, inner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one forward, cached where it is a denoising step."""
        with self._lock:
            if not counts_as_denoising(self.plan, self._parameters, args, kwargs):
                return inner(*args, **kwargs)
            caller = self.clock.pipelines.caller(self.plan)
            name = self.names.current() or caller.branch
            arguments = self._parameters.named(args, kwargs)
            count, latents = latents_in(arguments)
            shared = self.clock.driven.current
            if shared is not None and shared.by_place:
                turns = self._turns(shared, name, arguments, count)
            else:
                traces = traces_of(arguments, without=self.plan.timestep)
                generation = self.clock.generation(
                    Forward(
                        Reading(lambda: self._parameters.get(self.plan.timestep, args, kwargs)),
                        name,
                        traces,
                    ),
                    caller,
                )
                turn = self._turn(generation, name, traces, count)
                turn.doubt = turn.state.known.doubt(arguments, latents)
                turns = [turn]
            reason = "gradients are on" if needs_gradients(self.plan.module, args, kwargs) else None
            first, going = 0, False
            for turn in turns:
                turn.reason = turn.reason or reason
                if turn.reason is not None:
                    turn.state.skip(turn.reason)
                else:
                    going = True
                    own = latents if len(turns) == 1 else latents[first : first + turn.rows]
                    turn.state.lay_out(turn.branch, turn.rows, own)
                first += turn.rows
            if not going:
                return inner(*args, **kwargs)
            try:
                with self._passes(turns):
                    output = inner(*args, **kwargs)
                for turn in turns:
                    turn.settle()
                return output
            except DeviationError as error:
                if shared is not None and isinstance(error, TogetherError):
                    shared.refused = str(error)
                for turn in turns:
                    self._undo(turn, rerun=not isinstance(error, TogetherError))
                return inner(*args, **kwargs)
            except BaseException:
                for turn in turns:
                    self.clock.fail(turn.generation)
                raise
            finally:
                for turn in turns:
                    turn.leave()

    def _turns(
        self, shared: Shared, name: str | None, arguments: Mapping[str, Any], count: int
    ) -> list[Turn]:
        """Everybody's part in a forward whose rows are told."""
        if len(shared.parts) == 1:
            return [self._turn(shared.parts[0][0], name, {}, count)]
        turns = [self._turn(generation, name, {}, rows) for generation, rows in shared.parts]
        if any(item.entries is not None or item.plan.binding.passes for item in self.lists):
            shared.refused = HOLDS_MORE
        elif count != shared.rows:
            shared.refused = f"{count} rows go into a forward, of {shared.rows} rows of latents"
        for turn in turns:
            turn.reason = turn.reason or shared.refused
        padding = shared.padding(arguments)
        if padding is not None:
            for turn, length in zip(turns, padding[1], strict=True):
                turn.width, turn.length = padding[0], length
        return turns

    def _turn(self, generation: Generation, name: str | None, traces: Traces, rows: int) -> Turn:
        """A generation's part in a forward."""
        state = generation.transformers.get(self.plan.path)
        if state is None:
            state = generation.transformers[self.plan.path] = TransformerState()
            for runner in self.lists:
                runner.ranks = ranks_of(self.plan.module, self._together)
                for hook in runner.hooks:
                    hook.follow()
                state.changed = state.changed or changed_blocks(self.plan.module, runner.plan)
        turn = Turn(generation, state, state.enter(generation.tick, name, traces), rows)
        reason = generation.reason_against(self.plan.path, state.step) or state.changed
        if reason is None and len(state.known.ran) > MAX_BRANCHES:
            reason = "too many forwards in one step"
        early = reason is None and self.clock.may_announce(generation)
        if early and generation.masked(self.plan):
            reason = UNTOLD
        turn.reason = reason
        return turn

    def _undo(self, turn: Turn, *, rerun: bool) -> None:
        """A forward runs once more without the cache: nothing of its first run is used."""
        turn.state.reruns += rerun
        counts = {item.plan.path: len(item.hooks) for item in self.lists}
        for (path, label, _), found in turn.state.branches.items():
            if label == turn.branch and found.last_step == turn.state.step:
                found.undo_step(counts[path])

    @contextmanager
    def _passes(self, turns: Sequence[Turn]) -> Iterator[None]:
        together: list[SharedBranch] = []

        def begin(runner: ListRunner, again: int) -> tuple[Cache, Any]:
            found: Cache
            primary: BranchState | None = None
            if len(turns) == 1:
                found, primary = self._branch(turns[0], runner, again)
            else:
                found = self._shared_branch(turns, runner, again)
                together.append(found)
            for other in self.lists:
                if other is not runner and other.running is not None and other.running.in_middle:
                    found.unfit = other.running.branch.unfit = INTERLEAVED
            return found, primary

        for runner in self.lists:
            runner.running = ListPass(runner, turns[0].state.step, begin, turns[0].place)
        try:
            yield
            for runner in self.lists:
                if runner.running is not None and runner.running.round >= 0:
                    runner.running.close()
        finally:
            for runner in self.lists:
                runner.running = None
            for shared in together:
                shared.finish()

    def _shared_branch(self, turns: Sequence[Turn], runner: ListRunner, again: int) -> SharedBranch:
        members = []
        for turn in turns:
            found, primary = (None, None) if turn.reason else self._branch(turn, runner, again)
            member = Member(found, primary, turn.rows, turn.state.step, turn.place, turn.length)
            members.append(member)
        shared = SharedBranch(runner, members, turns[0].width)
        if len({(item.resolved.fn, item.resolved.bn) for item in shared.branches}) > 1:
            raise shared.refuse(OTHER_BLOCKS)
        return shared

    def _branch(
        self, turn: Turn, runner: ListRunner, again: int
    ) -> tuple[BranchState, BranchState]:
        generation, state, branch = turn.generation, turn.state, turn.branch
        path = runner.plan.path
        key = (path, branch, again)
        found = state.branches.get(key)
        steps = generation.shares.get(self.plan.path, generation.total)
        if found is not None and found.num_steps != steps:
            found.expect(steps, build_mask(found.resolved.scm, steps, runner.plan.where))
        if found is None:
            resolved = generation.layers(self.plan.path, runner.plan).resolve(generation.total)
            mask = build_mask(resolved.scm, steps, runner.plan.where)
            found = self.branch_state(path, resolved, steps, mask)
            state.branches[key] = found
        found.arrange(state.layouts.get(branch))
        found.manager.doubt = turn.doubt
        primary = state.first.setdefault((path, again), branch)
        return found, state.branches[path, primary, again]
