"""Which modules denoise, and what tells their steps: timestep, scheduler, split, other calls."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from cachedit_yaml.drafting.denoising import denoising_of, holds, unseen
from cachedit_yaml.drafting.parts import Candidate
from cachedit_yaml.drafting.record import Forward, Run

#: Names of arguments that carry the timestep, the likeliest first.
NAMES: Final = ("timestep", "timesteps", "t", "time", "sigma", "sigmas", "noise_level", "r")
#: Arguments that hold tokens, lengths or places, whatever they do from step to step.
_COUNTS: Final = re.compile(r"(ids|lens?|lengths?|index(es)?|indices|positions?)$")


@dataclass(frozen=True)
class Denoiser:
    """A module that is called in denoising steps.

    Attributes:
        path: its attribute path.
        module: the module.
        forwards: its denoising calls.
        timestep: the argument that carries the timestep; None where none does.
        scheduler: path of the scheduler that steps what it returns; None where none does.
        denoising: what tells its denoising calls from its others, as an adapter says it.
    """

    path: str
    module: torch.nn.Module
    forwards: tuple[Forward, ...]
    timestep: str | None
    scheduler: str | None
    denoising: Mapping[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> list[int]:
        """The steps in which it is called."""
        return sorted({item.step for item in self.forwards})

    @property
    def count(self) -> int:
        """How many steps it denoises, read off its timestep where no scheduler tells."""
        if len(self.steps) > 1:
            return len(self.steps)
        name = self.timestep or ""
        values = {call.moments[name].largest for call in self.forwards if name in call.moments}
        return len(values) or len(self.forwards)


def denoisers(run: Run, candidates: Sequence[Candidate]) -> list[Denoiser]:
    """The outermost modules of which each call is (a guidance branch of) one denoising step."""
    found: dict[str, Denoiser] = {}
    for item in candidates:
        for path, module in item.around:
            if path in found:
                break
            calls = [call for call in run.of(path) if call.calls.get(item.path)]
            denoiser = _denoiser(run, path, module, calls)
            if denoiser is not None:
                found[path] = denoiser
                break
    return [item for item in found.values() if not _feeds(item, found.values())]


def _feeds(one: Denoiser, others: Iterable[Denoiser]) -> bool:
    """Whether what a module returns goes into another one of the same step: a ControlNet."""
    given = {token for call in one.forwards for token in call.given}
    return any(
        call.taken & given for other in others if other is not one for call in other.forwards
    )


def _denoiser(
    run: Run, path: str, module: torch.nn.Module, calls: Sequence[Forward]
) -> Denoiser | None:
    if any(call.end > call.step for call in calls):
        return None  # it holds the loop itself
    total = len(run.stepped)
    within = [call for call in calls if call.step < total] if total else [*calls]
    timestep = _timestep(within)
    # Encoders and decoders run once for each schedule.
    steps = {(call.schedule, call.step) for call in within}
    once = len(steps) <= len({schedule for schedule, _ in steps})
    if not within or (total and once and not _is_named(timestep)):
        return None
    if not total and (len(within) < 2 or (timestep is None and path)):
        return None  # a transformer alone is called for nothing else
    denoising = denoising_of(within)
    chosen = [call for call in within if holds(denoising, call)]
    denoising = denoising or unseen(module, chosen)
    scheduler = run.stepped[chosen[-1].step] if total and chosen else None
    return Denoiser(path, module, tuple(chosen), timestep, scheduler, denoising)


def _is_named(timestep: str | None) -> bool:
    """Whether the argument is called what timesteps are called."""
    return timestep is not None and (timestep in NAMES or "time" in timestep)


def _timestep(calls: Sequence[Forward]) -> str | None:
    """The argument that moves in one direction from step to step."""
    found = []
    for name in calls[0].moments if calls else ():
        steps: dict[int, set[float]] = {}
        values: list[tuple[int, float]] = []
        for number, call in enumerate(calls):
            if name in call.moments and name.isidentifier() and not _COUNTS.search(name):
                value = call.moments[name].largest
                steps.setdefault(call.step, set()).add(value)
                if not values or values[-1][1] != value:
                    values.append((number, value))
        numbers = [value for _, value in values]
        moves = len(numbers) > 1 and numbers in (
            sorted(set(numbers)),
            sorted(set(numbers), reverse=True),
        )
        if moves or name == NAMES[0]:
            found.append(name)
    order = {name: place for place, name in enumerate(NAMES)}
    return min(found, key=lambda name: order.get(name, len(order)), default=None)


def split(
    target: Any, run: Run, found: Sequence[Denoiser]
) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """How the steps divide between two transformers: the adapter's `step_split`, and doubts."""
    if len(found) != 2 or not run.stepped:
        return None, ()
    first, second = sorted(found, key=lambda item: item.steps)
    if not first.steps or not second.steps or first.steps[-1] >= second.steps[0]:
        return None, ()  # both run in some steps
    if first.scheduler != second.scheduler:
        return None, ()
    low, high = _timesteps_around(first, second)
    ratios = [name for name, value in _numbers(target) if low < value <= high]
    named = [name for name in ratios if "boundary" in name] or ratios
    if len(named) == 1:
        boundary = {"ratio": f"pipeline.{named[0]}", "high": first.path, "low": second.path}
        return {"boundary": boundary}, ()
    share = round(len(first.steps) / len(run.stepped), 3)
    doubt = f"{first.path} takes the first {len(first.steps)} of {len(run.stepped)} steps, and " + (
        f"{' and '.join(named)} could say where it ends" if named else "no attribute says why"
    )
    return {"fraction": {first.path: share, second.path: round(1 - share, 3)}}, (doubt,)


def _timesteps_around(first: Denoiser, second: Denoiser) -> tuple[float, float]:
    """Between which shares of the whole noise one ends and the other begins."""

    def value(call: Forward, name: str | None) -> float:
        found = call.moments.get(name or "")
        if found is None:
            return 0.0
        return found.largest / 1000 if found.largest > 1 else found.largest

    return value(second.forwards[0], second.timestep), value(first.forwards[-1], first.timestep)


def _numbers(target: Any) -> list[tuple[str, float]]:
    """Numbers between 0 and 1 that a pipeline holds, by attribute path."""
    config = getattr(target, "config", None)
    held = (
        {f"config.{name}": value for name, value in dict(config or {}).items()}
        if isinstance(config, Mapping)
        else {}
    )
    own = {name: value for name, value in vars(target).items() if not name.startswith("_")}
    return [
        (name, value)
        for name, value in (held | own).items()
        if isinstance(value, float) and 0 < value < 1
    ]
