"""The table of results, for people and for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Spread

HEADINGS = ("measured", "uncached", "cache-dit", "ours", "ratio", "quartiles", "target", "met")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: what was measured.
        uncached: without any caching, or the baseline that the name speaks of.
        cache_dit: cache-dit with a BlockAdapter written by hand.
        ours: cachedit-yaml.
        ratio: the number that is held against the target.
        quartiles: its spread.
        target: what it should be; empty where there is none.
        met: whether it is, see :func:`is_met`; empty where there is no target.
        numbers: everything else, for programs.
    """

    name: str
    uncached: str = ""
    cache_dit: str = ""
    ours: str = ""
    ratio: str = ""
    quartiles: str = ""
    target: str = ""
    met: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cells(self) -> tuple[str, ...]:
        """The line as text."""
        return (
            self.name,
            self.uncached,
            self.cache_dit,
            self.ours,
            self.ratio,
            self.quartiles,
            self.target,
            self.met,
        )


def is_met(spread: Spread, *, at_most: float | None = None, at_least: float | None = None) -> str:
    """Whether a median meets its target, and whether that is sure in spite of the noise.

    Returns:
        ``yes``, ``yes?``, ``no?`` or ``NO``; with a question mark, the other side of the target
        is within the median's confidence interval.
    """
    # With signs turned, everything has to be at most its target.
    sign, bound = (1.0, at_most) if at_most is not None else (-1.0, at_least)
    assert bound is not None
    low, high = sorted((sign * spread.surely_above, sign * spread.surely_below))
    if sign * spread.median <= sign * bound:
        return "yes" if high <= sign * bound else "yes?"
    return "NO" if low > sign * bound else "no?"


def skipped(name: str, why: str) -> Row:
    """A line for what could not be measured."""
    return Row(name, ratio="skipped", quartiles=why)


def as_text(rows: Sequence[Row]) -> str:
    """The table in Markdown, aligned so that it reads well on a terminal too."""
    lines = [HEADINGS, *(row.cells for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(HEADINGS))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(f"{cell:<{widths[i]}}" for i, cell in enumerate(cells)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(HEADINGS), rule, *(line(row.cells) for row in rows)])


def verdict(rows: Sequence[Row]) -> str:
    """How many targets were met."""
    judged = [row.met for row in rows if row.met]
    met = sum(item.startswith("yes") for item in judged)
    unsure = sum(item.endswith("?") for item in judged)
    noise = f", {unsure} of these answers within the noise" if unsure else ""
    return f"{met} of {len(judged)} targets met{noise}"


def environment() -> dict[str, str]:
    """What the numbers depend on, without anything that names one machine."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "machine": f"{os.cpu_count()}-core {platform.machine().split('_')[0]} CPU",
        **({"gpu": gpu} if gpu else {}),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "cache-dit", "diffusers")},
    }


def headline(clock: str) -> str:
    """What the numbers depend on, in one line."""
    about = environment()
    names = ("python", "torch", "cache-dit", "diffusers")
    versions = ", ".join(f"{name} {about[name]}" for name in names)
    machine = ", ".join(about[name] for name in ("machine", "gpu", "system") if name in about)
    return f"{machine}; {versions}; one thread, {clock} time"


def write_json(path: Path, rows: Sequence[Row], about: Mapping[str, Any]) -> None:
    """Write everything to a file."""
    data = {**about, "environment": environment(), "rows": [asdict(row) for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
