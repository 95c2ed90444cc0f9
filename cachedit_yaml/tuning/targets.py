"""What is wanted of a profile, and which of the measured settings gives it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from cachedit_yaml.errors import ConfigError
from cachedit_yaml.generating.likeness import Likeness
from cachedit_yaml.tuning.candidates import Candidate, family_of
from cachedit_yaml.yaml.diagnostics import did_you_mean, one_of

KINDS: Final = ("psnr", "blocks", "speed")
#: How much worse TaylorSeer of an order is taken to come out than a trace of uncached steps says,
#: until some was run. On the demo's model order 2 was 0.7 to 1.8 times as bad as order 1 with the
#: same expectation (benchmarks/variants.py): errors of the cached steps bend its curve too.
_UNSEEN: Final = {2: 1.25}
_NAME: Final = re.compile(r"(?!(?:null|true|false)$)[A-Za-z][A-Za-z0-9._-]*")


class Target(NamedTuple):
    """What a profile is to reach.

    Attributes:
        profile: its name.
        kind: ``psnr``: of the worst quarter of the samples, in dB, as fast as can be; ``blocks``:
            share that runs, at most; ``speed``: uncached time over its own, at least; both as
            near as can be.
        value: the number.
    """

    profile: str
    kind: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``psnr=35`` or ``NAME:psnr=35``.

        Raises:
            ConfigError: it is something else.
        """
        name, _, wish = text.rpartition(":")
        kind, separator, number = wish.partition("=")
        if not separator or kind not in KINDS:
            hint = did_you_mean(kind, KINDS) or f"write one of {one_of(KINDS)} with a number"
            raise ConfigError(f"target {text!r}: {hint}, such as psnr=35 or fast:blocks=0.25")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        low, high = {"psnr": (0, 200), "blocks": (0, 1), "speed": (1, 1000)}[kind]
        if not low < value < high:
            raise ConfigError(
                f"target {text!r}: expected a number between {low} and {high}, not {number!r}"
            )
        if name and not _NAME.fullmatch(name):
            raise ConfigError(f"target {text!r}: {name!r} is no name for a profile")
        return cls(name or f"{kind}-{number}", kind, value)


#: Without a target: three profiles along the frontier.
PROFILES: Final = (
    Target("quality", "blocks", 0.45),
    Target("balanced", "blocks", 0.33),
    Target("fast", "blocks", 0.25),
)

#: Below every table of speeds.
NOT_TIMED: Final = (
    "~ of a run by itself; the others in turns with the uncached call, which is what counts"
)


@dataclass(frozen=True)
class Measured:
    """Settings that were run.

    Attributes:
        settings: as an adapter writes them.
        key: what they are, in one line.
        blocks: share of the blocks that ran.
        speed: uncached time over its own.
        likeness: how near its samples came.
        name: of the profile that was so before; empty for what was found.
        error: what the trace expected; None where nothing did.
        told: of a profile, what it said then, in one line.
        timed: the speed was measured in turns with the uncached call; else it is of a run that had
            the machine at another time, and may be off.
    """

    settings: Mapping[str, Any] = field(hash=False)
    key: str
    blocks: float
    speed: float
    likeness: Likeness
    name: str = ""
    error: float | None = None
    told: str = ""
    timed: bool = False

    @property
    def speed_text(self) -> str:
        """The speed for people, marked where it was not measured in turns."""
        return f"{'' if self.timed else '~'}{self.speed:.2f}x"

    def __str__(self) -> str:
        near = self.likeness
        others = "".join(f", {name} {text}" for name, text in near.others().items())
        return (
            f"{self.blocks:.1%} of blocks, {self.speed_text}, PSNR {near.pooled:.1f} dB, "
            f"worst quarter {near.low:.1f}, worst {near.worst:.1f}{others}"
        )


def reached(target: Target, item: Measured) -> bool:
    """Whether settings reach a target."""
    if target.kind == "psnr":
        return item.likeness.low >= target.value
    if target.kind == "blocks":
        return item.blocks <= target.value + 0.005
    return item.speed >= target.value


def choose(target: Target, measured: Sequence[Measured]) -> Measured | None:
    """The best of the settings that reach a target: the worst quarter of the samples decides.

    Not the worst one alone: a single sample that takes another turn early on says little, and what
    spoils all the others may spare it.

    Returns:
        None where none reaches it.
    """
    found = [item for item in measured if reached(target, item)]
    if target.kind == "psnr":
        return min(found, key=lambda item: (item.blocks, -item.likeness.low), default=None)
    return max(found, key=lambda item: (item.likeness.low, -item.blocks), default=None)


def promising(
    target: Target, candidates: Sequence[Candidate], measured: Sequence[Measured]
) -> Candidate | None:
    """The candidate that is worth the next run for a target; None where none is left.

    Args:
        target: what is wanted.
        candidates: what the trace proposes.
        measured: what has been run.
    """
    known = {item.key for item in measured}
    off = _off(measured)
    left = [
        (item, item.error * off.get(item.family, _UNSEEN.get(item.family[0], 1.0)))
        for item in candidates
        if item.key not in known
    ]
    if target.kind == "psnr":
        worth = _worth(measured, off)
        if not worth:
            found = min(left, key=lambda pair: (abs(pair[0].blocks - 0.33), pair[1]), default=None)
            return found[0] if found else None

        def expected(item: Candidate, error: float) -> float:
            near = sorted(worth, key=lambda pair: abs(pair[0] - item.blocks))[:3]
            mean = sum(value for _, value in near) / len(near)
            return mean - 20 * math.log10(error)

        found = min(
            (pair for pair in left if expected(*pair) >= target.value),
            key=lambda pair: (round(pair[0].blocks, 2), pair[1]),
            default=None,
        )
        return found[0] if found else None
    most = target.value
    if target.kind == "speed":
        most = _blocks_for(target.value, measured)
    fitting = (pair for pair in left if pair[0].blocks <= most + 0.005)
    found = min(fitting, key=lambda pair: pair[1], default=None)
    return found[0] if found else None


def _worth(
    measured: Sequence[Measured], off: Mapping[tuple[Any, ...], float]
) -> list[tuple[float, float]]:
    """How many dB an error is worth, by what was run at about the same cost."""
    return [
        (item.blocks, item.likeness.low + 20 * math.log10(item.error * off[family]))
        for item, family in _judged(measured)
        if item.error
    ]


def _judged(measured: Sequence[Measured]) -> list[tuple[Measured, tuple[Any, ...]]]:
    """What was run of what the trace had an opinion on."""
    return [
        (item, family_of(item.settings))
        for item in measured
        if item.error and math.isfinite(item.likeness.low)
    ]


def _off(measured: Sequence[Measured]) -> dict[tuple[Any, ...], float]:
    """How much worse settings came out than the trace said, against all that was run, by family."""
    ratios: dict[tuple[Any, ...], list[float]] = {}
    for item, family in _judged(measured):
        assert item.error
        ratios.setdefault(family, []).append(item.likeness.low / 20 + math.log10(item.error))
    means = {family: sum(found) / len(found) for family, found in ratios.items()}
    middle = sum(means.values()) / len(means) if means else 0.0
    return {family: 10 ** (middle - mean) for family, mean in means.items()}


def _blocks_for(speed: float, measured: Sequence[Measured]) -> float:
    """The share of blocks that a speed allows, by what was run: time is a line over blocks."""
    points = [(1.0, 1.0), *((item.blocks, 1 / item.speed) for item in measured)]
    if len(points) < 2:
        return 1 / speed
    x, y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    spread = sum((a - x) ** 2 for a, _ in points)
    slope: float = sum((a - x) * (b - y) for a, b in points) / spread if spread else 1.0
    return float(x + (1 / speed - y) / max(slope, 0.1))
