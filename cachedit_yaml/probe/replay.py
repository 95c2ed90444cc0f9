"""Whether a cached step returns what a computed one does, where both are given the same.

The last denoising call of each transformer is made again, with the very same arguments and where it
was made, once more computed and then in a generation whose steps are counted here. What is stored
of a step is then what the next one would compute: whatever else the loop takes from its blocks (a
head on each of them, outputs that are joined, losses that add up) shows.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import torch

from cachedit_yaml.api import start
from cachedit_yaml.compiler.plan import ListPlan, Plan, TransformerPlan
from cachedit_yaml.drafting.marks import tensors_in
from cachedit_yaml.runtime.blocks import ListRunner
from cachedit_yaml.runtime.branches import Parameters, counts_as_denoising
from cachedit_yaml.runtime.patching import Around

#: Steps of a generation of repeated calls: one that computes, and those that hit.
_STEPS: Final = 3
#: What kernels that add up in another order may make of the same numbers, in units of the last
#: place of the largest one.
_ULPS: Final = 16

RANDOM: Final = (
    "{where}: two computed calls with the same arguments differ, because it draws random numbers "
    "(dropout, noise): values on a hit cannot be compared"
)
_STATE: Final = (
    "{where}: two computed calls with the same arguments differ (relative error {error:.2g}): it "
    "keeps something from call to call, which a skipped block may leave undone"
)
_DIFFERS: Final = (
    "{where}: a cached step differs from the computed one although its arguments are the same "
    "(relative error {error:.2g}): the loop takes more from its blocks ({lists}) than it hands on "
    "from one to the next, such as a head on each block, outputs that are joined, or losses"
)
#: What to do about it.
ADVICE: Final = (
    "leave the list out of `blocks`, or say `refuse`; what blocks return beside their hidden "
    "states can be named with `returns`"
)


class Replay:
    """Makes the last denoising call of each transformer again, while it is entered.

    Args:
        plan: with settings that let every step hit after the first.
        counts: how many denoising calls each transformer has in a run.

    Attributes:
        wrong: what does not hold, by transformer.
        untold: why nothing could be compared, by transformer.
        tried: the transformers that were.
    """

    def __init__(self, plan: Plan, counts: Mapping[str, int]) -> None:
        # Each call is a step, whichever transformer it is.
        self._plan = replace(plan, split=None)
        self._left = Counter(counts)
        self._busy = False
        self.wrong: dict[str, str] = {}
        self.untold: dict[str, str] = {}
        self.tried: set[str] = set()
        self._patches = [
            Around(item.module, "forward", functools.partial(self._forward, item, parameters))
            for item in plan.transformers
            for parameters in [Parameters(item.module.forward)]
        ]

    def __enter__(self) -> Replay:
        for patch in self._patches:
            patch.install()
        return self

    def __exit__(self, *exception: object) -> None:
        for patch in reversed(self._patches):
            patch.remove()

    def _forward(
        self,
        plan: TransformerPlan,
        parameters: Parameters,
        inner: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        if self._busy or not counts_as_denoising(plan, parameters, args, kwargs):
            return inner(*args, **kwargs)
        self._left[plan.path] -= 1
        if self._left[plan.path]:
            return inner(*args, **kwargs)
        self._busy = True
        again = _Again(plan.module, args, kwargs)
        try:
            output = again.call()
            self.tried.add(plan.path)
            self._compare(plan, again, _tensors(output))
            return output
        finally:
            self._busy = False

    def _compare(self, plan: TransformerPlan, again: _Again, first: list[torch.Tensor]) -> None:
        with _Rounded(plan) as rounded:
            second = again.tensors()
            if _error(second, first):
                once, twice = again.tensors(seed=0), again.tensors(seed=0)
                if not _error(once, twice):
                    self.untold[plan.path] = RANDOM.format(where=plan.path)
                else:
                    error = _error(once, twice)
                    self.wrong[plan.path] = _STATE.format(where=plan.path, error=error)
                return
            rounded.on = True
            expected = again.tensors()
        handle = start(self._plan)
        try:
            going = handle.stepwise(_STEPS + 1)
            steps = []
            for _ in range(_STEPS):
                with going.step():
                    steps.append(again.tensors())
            stats = handle.stats_of(going.generation)
        finally:
            handle.disable()
        if not any(row.cached_steps for row in stats.branches if row.transformer == plan.path):
            why = next(iter(stats.warnings), "no step of the repeated calls hit")
            self.untold[plan.path] = f"{plan.path}: {why}"
            return
        allowed = _error(expected, first) + _ULPS * _epsilon(first)
        error = max(_error(found, expected) for found in steps[1:])
        if not error <= allowed:
            lists = ", ".join(item.path for item in plan.lists)
            self.wrong[plan.path] = _DIFFERS.format(where=plan.path, error=error, lists=lists)


class _Again:
    """One call of a module that can be made again: what it writes over is put back."""

    def __init__(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._module, self._args, self._kwargs = module, args, kwargs
        self._before = [(item, item.clone()) for item in tensors_in([args, kwargs])]

    def call(self) -> Any:
        """Make it, with what the arguments held at first."""
        for tensor, before in self._before:
            if not _equal(tensor, before):
                tensor.copy_(before)
        args, kwargs = _copied((self._args, self._kwargs))
        return self._module.forward(*args, **kwargs)

    def tensors(self, seed: int | None = None) -> list[torch.Tensor]:
        """Make it; copies of everything that it returns, since some write over that.

        Args:
            seed: of the random numbers that it draws; None for those that come next.
        """
        if seed is not None:
            torch.manual_seed(seed)
        return _tensors(self.call())


@dataclass
class _Rounding:
    """What one list does in the calls of one forward.

    Attributes:
        plan: the list.
        first: index of the first block that a hit skips.
        end: index after the last one.
        last: blocks after which the loop leaves the middle, in their order.
        entered: hidden states and encoder hidden states before the middle blocks.
        before: index of the last block that ran.
        turn: rounds through the list in this forward.
        beside: what the last block returned in the second place.
    """

    plan: ListPlan
    runner: ListRunner
    first: int
    end: int
    last: dict[int, int] = field(default_factory=dict)
    entered: tuple[torch.Tensor, Any] | None = None
    before: int = -1
    turn: int = 0
    beside: Any = None


class _Rounded:
    """Forwards that compute everything, with the rounding that storing a difference brings.

    On a hit the last of the skipped blocks returns ``in + (out - in)`` for ``out``.

    Attributes:
        on: whether the calls to come are rounded; the first one shows which blocks the loop runs.
    """

    def __init__(self, plan: TransformerPlan) -> None:
        self.on = False
        self._lists = [self._of(item) for item in plan.lists]
        self._patches = []
        for item in self._lists:
            for index, block in enumerate(item.plan.blocks):
                name = "forward" if block._compiled_call_impl is None else "_compiled_call_impl"
                told = functools.partial(self._block, item, index)
                self._patches.append(Around(block, name, told))
        self._module = Around(plan.module, "forward", self._forward)

    @staticmethod
    def _of(plan: ListPlan) -> _Rounding:
        settings = plan.layers.resolve(None)
        return _Rounding(plan, ListRunner(plan), settings.fn, len(plan.blocks) - settings.bn)

    def __enter__(self) -> _Rounded:
        for patch in (*self._patches, self._module):
            patch.install()
        return self

    def __exit__(self, *exception: object) -> None:
        for patch in (self._module, *reversed(self._patches)):
            patch.remove()

    def _forward(self, inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        for item in self._lists:
            item.before, item.turn, item.entered = len(item.plan.blocks), -1, None
        return inner(*args, **kwargs)

    def _block(
        self, item: _Rounding, index: int, inner: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        if index <= item.before:
            item.turn, item.entered = item.turn + 1, None
        item.before = index
        if not item.first <= index < item.end:
            output = inner(*args, **kwargs)
            if index < item.first:
                item.beside = item.runner.split(output)[1]
            return output
        binding = item.plan.binding
        if item.entered is None:
            encoder = binding.encoder.get(args, kwargs) if binding.encoder else item.beside
            hidden = binding.hidden.get(args, kwargs).clone()
            item.entered = hidden, encoder.clone() if _is_tensor(encoder) else None
        output = inner(*args, **kwargs)
        if not self.on:
            item.last[item.turn] = index
        elif item.last.get(item.turn) == index:
            return self._rounded(item, output)
        return output

    @staticmethod
    def _rounded(item: _Rounding, output: Any) -> Any:
        assert item.entered is not None
        runner, (before, beside) = item.runner, item.entered
        hidden, encoder = runner.split(output)
        if hidden.shape != before.shape:
            return output
        adds = item.plan.pattern.returns_encoder and not item.plan.binding.passes
        if adds and _is_tensor(encoder) and _is_tensor(beside) and encoder.shape == beside.shape:
            encoder = beside + (encoder.contiguous() - beside)
        kept = None if runner.entries is None else runner.entries.rest(output)
        return runner.join(before + (hidden.contiguous() - before), encoder, kept)


def _copied(value: Any) -> Any:
    """The same tensors and objects in other containers: some are emptied on the way."""
    if type(value) is dict:
        return {name: _copied(item) for name, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_copied, value))
    return value


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _tensors(output: Any) -> list[torch.Tensor]:
    return [item.detach().clone() for item in tensors_in(output)]


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    same = torch.equal(one, other)
    return same or torch.equal(one.nan_to_num(), other.nan_to_num())


def _error(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The largest difference of two outputs, by the largest number of the tensor that it is in."""
    if [item.shape for item in found] != [item.shape for item in expected]:
        return float("inf")
    errors = [0.0]
    for one, other in itertools.starmap(_double, zip(found, expected, strict=True)):
        if not torch.equal(one, other):
            scale = max(float(other.abs().max()), torch.finfo(torch.float64).tiny)
            errors.append(float((one - other).abs().max()) / scale)
    return max(errors)


def _double(*tensors: torch.Tensor) -> list[torch.Tensor]:
    real = (torch.view_as_real(item) if item.is_complex() else item for item in tensors)
    return [item.double().nan_to_num() for item in real]


def _epsilon(tensors: list[torch.Tensor]) -> float:
    """The roughest number format of an output."""
    kinds = (item.dtype for item in tensors if item.is_floating_point())
    return max((torch.finfo(kind).eps for kind in kinds), default=0.0)
