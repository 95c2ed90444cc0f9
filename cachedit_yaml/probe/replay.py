"""Whether a cached step returns what a computed one does, where both are given the same.

The last denoising call of each transformer is made again, with the very same arguments and where it
was made, once more computed and then in a generation whose steps are counted here. What is stored
of a step is then what the next one would compute: whatever else the loop takes from its blocks (a
head on each of them, outputs that are joined, losses that add up) shows.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

import torch

from cachedit_yaml.compiler.plan import Plan, TransformerPlan
from cachedit_yaml.drafting.marks import tensors_in
from cachedit_yaml.probe.rounded import Rounded
from cachedit_yaml.runtime.branches import Parameters, counts_as_denoising
from cachedit_yaml.runtime.execution import start
from cachedit_yaml.runtime.outputs import entries
from cachedit_yaml.runtime.patching import Around, Patched

#: The way to a tensor in an output, and the tensors by it.
Path: TypeAlias = tuple[str, ...]
Tensors: TypeAlias = dict[Path, torch.Tensor]

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


class Replay(Patched):
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
        super().__init__()
        # Each call is a step, whichever transformer it is.
        self._plan = replace(plan, split=None)
        self._left = Counter(counts)
        self._busy = False
        self.wrong: dict[str, str] = {}
        self.untold: dict[str, str] = {}
        self.tried: set[str] = set()
        self._patches += [
            Around(item.module, "forward", functools.partial(self._forward, item, parameters))
            for item in plan.transformers
            for parameters in [Parameters(item.module.forward)]
        ]

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
            self._compare(plan, again, _copies(output))
            return output
        finally:
            self._busy = False

    def _compare(self, plan: TransformerPlan, again: _Again, first: Tensors) -> None:
        with Rounded(plan) as rounded:
            second = again.tensors()
            # What blocks hand on as a state is said to be no content, also where it is returned.
            states = {id(item) for item in rounded.states}
            again.unread = [path for path, item in _leaves(again.output) if id(item) in states]
            first, second = again.read(first), again.read(second)
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
    """One call of a module that can be made again: what it writes over is put back.

    Attributes:
        output: what it returned last.
        unread: places in it that nobody compares.
    """

    def __init__(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._module, self._args, self._kwargs = module, args, kwargs
        self.output: Any = None
        self.unread: list[Path] = []
        self._before = [(item, item.clone()) for item in tensors_in([args, kwargs])]

    def call(self) -> Any:
        """Make it, with what the arguments held at first."""
        for tensor, before in self._before:
            if not _equal(tensor, before):
                tensor.copy_(before)
        args, kwargs = _copied((self._args, self._kwargs))
        self.output = self._module.forward(*args, **kwargs)
        return self.output

    def tensors(self, seed: int | None = None) -> Tensors:
        """Make it; copies of everything that it returns, since some write over that.

        Args:
            seed: of the random numbers that it draws; None for those that come next.
        """
        if seed is not None:
            torch.manual_seed(seed)
        return self.read(_copies(self.call()))

    def read(self, tensors: Tensors) -> Tensors:
        """Those of them that are compared."""
        return {
            path: item
            for path, item in tensors.items()
            if not any(path[: len(left)] == left for left in self.unread)
        }


def _copied(value: Any) -> Any:
    """The same tensors and objects in other containers: some are emptied on the way."""
    if type(value) is dict:
        return {name: _copied(item) for name, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_copied, value))
    return value


def _copies(output: Any) -> Tensors:
    return {path: item.detach().clone() for path, item in _leaves(output)}


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, torch.Tensor]]:
    """The tensors in an output, each with the way to it."""
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, (Mapping, list, tuple)) or dataclasses.is_dataclass(value):
        for name, item in entries(value).items():
            yield from _leaves(item, (*path, name))


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    same = torch.equal(one, other)
    return same or torch.equal(one.nan_to_num(), other.nan_to_num())


def _error(found: Tensors, expected: Tensors) -> float:
    """The largest difference of two outputs, by the largest number of the tensor that it is in."""
    if {path: x.shape for path, x in found.items()} != {p: x.shape for p, x in expected.items()}:
        return float("inf")
    errors = [0.0]
    for path, item in found.items():
        one, other = _double(item, expected[path])
        if not torch.equal(one, other):
            scale = max(float(other.abs().max()), torch.finfo(torch.float64).tiny)
            errors.append(float((one - other).abs().max()) / scale)
    return max(errors)


def _double(*tensors: torch.Tensor) -> list[torch.Tensor]:
    real = (torch.view_as_real(item) if item.is_complex() else item for item in tensors)
    return [item.double().nan_to_num() for item in real]


def _epsilon(tensors: Tensors) -> float:
    """The roughest number format of an output."""
    kinds = (item.dtype for item in tensors.values() if item.is_floating_point())
    return max((torch.finfo(kind).eps for kind in kinds), default=0.0)
