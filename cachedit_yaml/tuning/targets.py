"""What is wanted of a profile, and which of the measured settings gives it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from cachedit_yaml.errors import ConfigError
from cachedit_yaml.generating.likeness import Likeness
from cachedit_yaml.tuning.candidates import Candidate
from cachedit_yaml.tuning.guess import Guess
from cachedit_yaml.yaml.diagnostics import did_you_mean, one_of

KINDS: Final = ("psnr", "blocks", "speed")
_NAME: Final = re.compile(r"(?!(?:null|true|false)$)[A-Za-z][A-Za-z0-9._-]*")


class Target(NamedTuple):
    """What a profile is to reach.

    Attributes:
        profile: its name.
        kind: ``psnr``: of the worst quarter of the samples, in dB, as fast as can be; ``blocks``:
            share that runs, at most; ``speed``: uncached time over its own, at least; both as
            near to the uncached samples as can be.
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
    """The best of the settings that reach a target.

    A promised PSNR is kept by the worst quarter of the samples. Of settings that cost what they
    may, that quarter and all samples count alike: not the worst one alone, as a single sample that
    takes another turn early on says little, and what spoils all the others may spare it.

    Returns:
        None where none reaches it.
    """
    found = [item for item in measured if reached(target, item)]
    if target.kind == "psnr":
        return min(found, key=lambda item: (item.blocks, -item.likeness.low), default=None)
    return max(found, key=lambda item: (item.likeness.typical, -item.blocks), default=None)


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
    left = [item for item in candidates if item.key not in known]
    lowest = target.kind == "psnr"
    guess = Guess(
        [
            (item.settings, item.blocks, item.error, near.low if lowest else near.typical)
            for item in measured
            if item.error and math.isfinite((near := item.likeness).low)
        ]
    )
    if lowest and not guess:
        return min(left, key=lambda item: (abs(item.blocks - 0.33), item.error), default=None)
    if lowest:
        hopes = ((item, guess.of(item)) for item in left)
        good = (pair for pair in hopes if pair[1] >= target.value)
        return min(good, key=lambda pair: (round(pair[0].blocks, 2), -pair[1]), default=(None,))[0]
    most = _blocks_for(target.value, measured) if target.kind == "speed" else target.value
    dearer = _dearer(candidates, measured)
    fitting = (
        item for item in left if item.blocks * (1 if _masked(item) else dearer) <= most + 0.005
    )
    return max(fitting, key=guess.of, default=None)


def _dearer(candidates: Iterable[Candidate], measured: Sequence[Measured]) -> float:
    """How many more blocks ran than the trace expected, where a threshold decides.

    What is cached moves the next differences, so fewer steps hit than in uncached calls.
    """
    expected = {item.key: item.blocks for item in candidates if not _masked(item)}
    found = [item.blocks / expected[item.key] for item in measured if item.key in expected]
    return sum(found) / len(found) if found else 1.0


def _masked(item: Candidate) -> bool:
    return item.settings.get("scm") is not None


def _blocks_for(speed: float, measured: Sequence[Measured]) -> float:
    """The share of blocks that a speed allows, by what was run: time is a line over blocks."""
    points = [(1.0, 1.0), *((item.blocks, 1 / item.speed) for item in measured)]
    if len(points) < 2:
        return 1 / speed
    x, y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    spread = sum((a - x) ** 2 for a, _ in points)
    slope: float = sum((a - x) * (b - y) for a, b in points) / spread if spread else 1.0
    return float(x + (1 / speed - y) / max(slope, 0.1))
