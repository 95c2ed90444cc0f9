"""One transformer under the hooked loop: its forwards, branches and block lists."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Protocol

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
from cachedit_yaml.runtime.changes import changed_blocks
from cachedit_yaml.runtime.clock import Clock
from cachedit_yaml.runtime.conditioning import Branches
from cachedit_yaml.runtime.contexts import BranchState
from cachedit_yaml.runtime.generation import Generation
from cachedit_yaml.runtime.identity import Traces, traces_of
from cachedit_yaml.runtime.masks import UNTOLD, build_mask
from cachedit_yaml.runtime.passes import ListPass
from cachedit_yaml.runtime.patching import Patch
from cachedit_yaml.runtime.rows import DeviationError, TogetherError
from cachedit_yaml.runtime.samples import Layout, latents_in
from cachedit_yaml.runtime.timesteps import Reading

#: A forward that none of the pipelines known makes: more forwards than this within one step mean
#: that the clock stands still, so they run uncached.
MAX_BRANCHES = 8

#: Modes of torch's dispatcher under which no tensor is one.
_RECORDING: Final = (
    torch._C._TorchDispatchModeKey.FAKE,
    torch._C._TorchDispatchModeKey.FUNCTIONAL,
    torch._C._TorchDispatchModeKey.PROXY,
)

INTERLEAVED = "blocks of another declared list run between its own; declare one of the lists only"


class TransformerState:
    """What one generation keeps for one transformer.

    Attributes:
        step: index of the current step within this transformer's share; -1 before the first.
        branches: the caches, by block list, branch name and round through the list.
        layouts: which rows are whose, by branch name.
        uncached: forwards that ran uncached, by reason.
    """

    def __init__(self) -> None:
        self.step = -1
        self.tick = -1
        self.known = Branches()
        self.first: dict[tuple[str, int], str] = {}
        self.branches: dict[tuple[str, str, int], BranchState] = {}
        self.layouts: dict[str, Layout] = {}
        self.uncached: dict[str, int] = {}
        self.reruns = 0
        self.changed: str | None = None

    def enter(self, tick: int, name: str | None, traces: Traces) -> str:
        """Count a forward; returns the branch that it belongs to."""
        if tick != self.tick:
            self.tick = tick
            self.step += 1
            self.first.clear()
        label, forgotten = self.known.of(tick, name, traces)
        for key in [key for key in self.branches if key[1] == forgotten]:
            self.branches[key].release()
        return label

    def layout(self, branch: str, arguments: Mapping[str, Any]) -> Layout:
        """Which rows of a forward belong to which sample."""
        count, latents = latents_in(arguments)
        found = self.layouts.get(branch)
        if found is None or found.count != count:
            found = self.layouts[branch] = Layout(count)
        found.latents = latents if count > 1 and found.copies is None else None
        return found

    def likeness(self, traces: Traces) -> int:
        """How many tensors of a forward are those of one of its branches."""
        return self.known.likeness(traces)

    def step_at(self, tick: int) -> int:
        """The step that a forward at this tick belongs to."""
        return self.step + (tick != self.tick)

    def forget(self) -> None:
        """Drop what is cached; the next step computes."""
        for branch in self.branches.values():
            branch.forget()

    def release(self) -> None:
        """Drop every cached tensor."""
        for branch in self.branches.values():
            branch.release()

    def skip(self, reason: str) -> None:
        """Count a forward that runs uncached."""
        self.uncached[reason] = self.uncached.get(reason, 0) + 1


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
            caller = self.clock.caller(self.plan)
            name = self.names.current() or caller.branch
            arguments = self._parameters.named(args, kwargs)
            traces = traces_of(arguments, without=self.plan.timestep)
            generation = self.clock.generation(
                Forward(
                    Reading(lambda: self._parameters.get(self.plan.timestep, args, kwargs)),
                    name,
                    traces,
                ),
                caller,
            )
            state = generation.transformers.get(self.plan.path)
            if state is None:
                state = generation.transformers[self.plan.path] = TransformerState()
                for runner in self.lists:
                    runner.ranks = ranks_of(self.plan.module, self._together)
                    for hook in runner.hooks:
                        hook.follow()
                    state.changed = state.changed or changed_blocks(self.plan.module, runner.plan)
            branch = state.enter(generation.tick, name, traces)
            reason = generation.reason_against(self.plan.path, state.step) or state.changed
            if reason is None and len(state.known.ran) > MAX_BRANCHES:
                reason = "too many forwards in one step"
            if reason is None and needs_gradients(self.plan.module, args, kwargs):
                reason = "gradients are on"
            early = reason is None and self.clock.may_announce(generation)
            if early and needs_steps(self.plan, generation):
                reason = UNTOLD
            if reason is not None:
                state.skip(reason)
                return inner(*args, **kwargs)
            layout = state.layout(branch, arguments)
            try:
                with self._passes(generation, state, branch):
                    return inner(*args, **kwargs)
            except DeviationError as error:
                state.reruns += not isinstance(error, TogetherError)
                counts = {item.plan.path: len(item.hooks) for item in self.lists}
                for (path, label, _), found in state.branches.items():
                    if label == branch and found.last_step == state.step:
                        found.undo_step(counts[path])
                return inner(*args, **kwargs)
            except BaseException:
                self.clock.fail(generation)
                raise
            finally:
                layout.latents = None

    @contextmanager
    def _passes(
        self, generation: Generation, state: TransformerState, branch: str
    ) -> Iterator[None]:
        def begin(runner: ListRunner, turn: int) -> tuple[BranchState, BranchState]:
            found, primary = self._branch(generation, state, runner, branch, turn)
            for other in self.lists:
                if other is not runner and other.running is not None and other.running.in_middle:
                    found.unfit = other.running.branch.unfit = INTERLEAVED
            return found, primary

        for runner in self.lists:
            runner.running = ListPass(runner, state.step, begin, len(state.known.ran) - 1)
        try:
            yield
            for runner in self.lists:
                if runner.running is not None and runner.running.round >= 0:
                    runner.running.close()
        finally:
            for runner in self.lists:
                runner.running = None

    def _branch(
        self,
        generation: Generation,
        state: TransformerState,
        runner: ListRunner,
        branch: str,
        turn: int,
    ) -> tuple[BranchState, BranchState]:
        path = runner.plan.path
        key = (path, branch, turn)
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
        primary = state.first.setdefault((path, turn), branch)
        return found, state.branches[path, primary, turn]


def needs_steps(plan: TransformerPlan, generation: Generation) -> bool:
    """Whether a list has a step computation mask, which is made for a number of steps."""
    found = (generation.layers(plan.path, item) for item in plan.lists)
    return any(item.resolve(None).scm is not None for item in found)


def is_recorded() -> bool:
    """Whether this call becomes part of a graph, or runs under a transform of torch.func.

    So it is where a mode of torch's own stands in for tensors: those of `make_fx` and fake ones.
    """
    return bool(
        torch._C._get_tracing_state() is not None
        or torch.compiler.is_exporting()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or any(torch._C._get_dispatch_mode(mode) is not None for mode in _RECORDING)
    )


def needs_gradients(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether autograd records this forward: what it records must not be stored or skipped."""
    if not torch.is_grad_enabled():
        return False
    return any(
        isinstance(item, torch.Tensor) and item.requires_grad
        for item in (*args, *kwargs.values(), *module.parameters())
    )
