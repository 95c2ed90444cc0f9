"""Kernels launched and host synchronisations of a forward, counted: the same on any machine.

Every operation that reaches a device passes PyTorch's dispatcher; views do not launch anything, and
reading a number (``_local_scalar_dense`` and its like) makes the host wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import subjects
from benchmarks.architectures import ARCHITECTURES
from benchmarks.contest import Contest, mask_that_hits
from benchmarks.subjects import Size
from benchmarks.table import Row

_SIZE: Final = Size(layers=12, width=64, tokens=16)
_STEPS: Final = 8
_STEPS_OF_FLUX: Final = 12
#: Operations that make the host wait for the device.
_WAITING: Final = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "item")
#: Operations without a kernel that are no views by their schema.
_FREE: Final = (
    "detach",
    "alias",
    "empty",
    "empty_strided",
    "empty_like",
    "_unsafe_view",
    "lift_fresh",
)


@dataclass
class Count:
    """What ran.

    Attributes:
        launches: kernels.
        waits: host synchronisations.
    """

    launches: int = 0
    waits: int = 0


class _Counting(TorchDispatchMode):
    def __init__(self, count: Count) -> None:
        super().__init__()
        self.count = count

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func._schema.name.rpartition("::")[2]
        if name in _WAITING:
            self.count.waits += 1
        elif not func.is_view and name not in _FREE:
            self.count.launches += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def counted() -> Iterator[Count]:
    """Count what runs inside."""
    count, inner = Count(), torch.Tensor.tolist

    def tolist(tensor: torch.Tensor) -> Any:
        count.waits += 1  # it reads the memory, without an operation
        return inner(tensor)

    torch.Tensor.tolist = tolist
    try:
        with _Counting(count):
            yield count
    finally:
        torch.Tensor.tolist = inner


def rows() -> list[Row]:
    """Ours beside cache-dit's, with the decision by differences, by a forecast, and by a mask."""
    found = []
    cases = {
        "no hit": subjects.settings(1e-9, None),
        "every step hits": subjects.settings(0.99, None),
        "static mask": subjects.settings(0.08, list(mask_that_hits(_STEPS))),
    }
    for name, values in cases.items():
        model = subjects.build(_SIZE)
        found += _rows(name, Contest(model, subjects.inputs(_SIZE, _STEPS), values))
    return found + one_decision()


def one_decision() -> list[Row]:
    """FLUX's two lists with one decision a forward, beside cache-dit's adapter that chains them.

    Raises:
        RuntimeError: they serve other steps, run other blocks or differ by more than rounding.
    """
    flux, found = ARCHITECTURES["flux"], []
    arguments = flux.arguments(_STEPS_OF_FLUX, tiny=True)
    for name, threshold in (("no hit", 1e-9), ("every step after two hits", 0.99)):
        values = {**subjects.settings(threshold, None), "max_warmup_steps": 2}
        model = flux.build(tiny=True)
        contest = Contest(model, arguments, values, lists=flux.lists, together=True)
        _agree(contest)
        found += _rows(f"FLUX, one decision: {name}", contest)
    return found


def _agree(contest: Contest) -> None:
    """Run one generation of both and compare it."""
    for item in contest.cached.values():
        item.refresh()
    with torch.no_grad():
        for step in range(len(contest.arguments)):
            ours, theirs = (contest._forward(who, step) for who in ("ours", "cache-dit"))
            if not torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5):
                raise RuntimeError(f"step {step}: cache-dit and cachedit-yaml disagree")
    (chained,) = contest.cached["cache-dit"].hits()
    for own in contest.cached["ours"].hits():
        if own != chained:
            raise RuntimeError(f"served steps {own}, and cache-dit {chained}")


def _rows(name: str, contest: Contest) -> list[Row]:
    counts = {who: _generation(contest, who) for who in contest.models}
    for item in contest.cached.values():
        item.off()
    ours, theirs = counts["ours"], counts["cache-dit"]
    found = []
    for what in ("launches", "waits"):
        mine, other = getattr(ours, what), getattr(theirs, what)
        found.append(
            Row(
                name=f"{name}: {'kernels' if what == 'launches' else 'synchronisations'}",
                uncached=str(getattr(counts["uncached"], what)),
                cache_dit=str(other),
                ours=str(mine),
                ratio=f"{mine - other:+d}",
                quartiles=f"{len(contest.arguments)} forwards",
                target="at most cache-dit's",
                met="yes" if mine <= other else "NO",
            )
        )
    return found


def _generation(contest: Contest, who: str) -> Count:
    """The second generation of one contender."""
    cached = contest.cached.get(who)
    with torch.no_grad():
        for _ in range(2):
            if cached is not None:
                cached.refresh()
            with counted() as count:
                for step in range(len(contest.arguments)):
                    contest._forward(who, step)
    return count
