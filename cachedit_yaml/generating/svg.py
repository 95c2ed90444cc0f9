"""The charts of a report as inline SVG: the page gives them their colours, light or dark."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cachedit_yaml.generating.timeline import differences, ticks
from cachedit_yaml.yaml.diagnostics import plain

if TYPE_CHECKING:
    from PIL.Image import Image

    from cachedit_yaml.generating.timeline import Panel, Shape
    from cachedit_yaml.runtime.stats import BranchStats

_WIDTH: Final = 1000
#: Of the frontier: its left, top, right and bottom.
_AREA: Final = (70, 22, 965, 410)
#: Of the timeline: room for labels, height of a row at most, of a lane at most, of the chart.
_LABELS: Final = 220
_ROW, _LANE, _CHART = 9, 110, 62
#: Labels are so long at most.
_LETTERS: Final = 28


def escape(text: str) -> str:
    """A text as one line of HTML in which every character can be seen."""
    return html.escape(plain(text))


@dataclass(frozen=True)
class Point:
    """Settings that were run.

    Attributes:
        name: of the profile; empty for what was only tried.
        kind: ``chosen``, ``tried`` or ``profile``, one that the adapter had.
        blocks: share of the blocks that ran.
        psnr: over all samples, in dB; infinite where they are equal.
        worst: of the worst sample.
        best: of the best sample.
        lines: what else there is to say, such as the settings.
        pictures: pictures to show with it, by what they are.
    """

    name: str
    kind: str
    blocks: float
    psnr: float
    worst: float
    best: float
    lines: Sequence[str] = ()
    pictures: Sequence[tuple[str, Image]] = ()


def draw_frontier(points: Sequence[Point]) -> str:
    """Cost against quality: the points have ``data-point``, their place in the sequence."""
    left, top, right, bottom = _AREA
    ends = [x for item in points for x in (item.psnr, item.worst, item.best) if math.isfinite(x)]
    low = math.floor(min(ends, default=30) / 5) * 5
    high = max(math.ceil(max(ends, default=60) / 5) * 5, low + 5)
    most = math.ceil(max((item.blocks for item in points), default=1.0) * 10) / 10 or 1.0

    def x_of(blocks: float) -> float:
        return left + (right - left) * blocks / most

    def y_of(decibel: float) -> float:
        # Equal results lie at the upper end, what is no number at the lower one.
        value = low if math.isnan(decibel) else min(max(decibel, low), high)
        return bottom - (bottom - top) * (value - low) / (high - low)

    parts = [f'<svg viewBox="0 0 {_WIDTH} 470" role="group" aria-label="cost against quality">']
    for decibel in range(low, high + 1, 5):
        y = y_of(decibel)
        parts.append(_line("rule", left, y, right, y) + _text(left - 8, y + 4, f"{decibel} dB"))
    for tenth in range(round(most * 10) + 1):
        parts.append(_text(x_of(tenth / 10), bottom + 20, f"{10 * tenth} %", "middle"))
    label = "share of the blocks that ran; PSNR against the uncached result"
    parts.append(_text((left + right) / 2, bottom + 46, label, "middle"))
    order, used = ("tried", "profile", "chosen"), list[tuple[float, float]]()
    for index, item in sorted(enumerate(points), key=lambda pair: order.index(pair[1].kind)):
        x, y = x_of(item.blocks), y_of(item.psnr)
        side = 11 if x < left + 0.8 * (right - left) else -11
        named = (x + side, y - 5)
        while item.name and any(abs(named[0] - a) < 70 and abs(named[1] - b) < 13 for a, b in used):
            named = (named[0], named[1] + 14)
        used += [named] if item.name else []
        told = escape("\n".join([item.name or "tried", *item.lines]))
        parts.append(
            f'<g class="point {item.kind}" tabindex="0" data-point="{index}"><title>{told}</title>'
            + _line("bar", x, y_of(item.worst), x, y_of(item.best))
            + f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7"/>'
            + _text(*named, item.name, "start" if side > 0 else "end", "name")
            + "</g>"
        )
    return "".join([*parts, "</svg>"])


def draw_timeline(panel: Panel) -> str:
    """Which blocks ran at which step of a generation: a lane for each branch of each list."""
    parts: list[str] = []
    y = 4.0
    for branch in panel.branches:
        shape = panel.shape(branch)
        lane = max(min(shape.blocks * _ROW, _LANE), 50)
        place = "" if branch.transformer == "transformer" else f"in {branch.transformer}, "
        lines = [branch.blocks, place + branch.branch]
        lines.append(branch.steps_cached)
        for line, text in enumerate(lines):
            short = text if len(text) <= _LETTERS else text[: _LETTERS - 3] + "..."
            parts.append(_text(0, y + 13 + 16 * line, short, "start", "axis" if line else "name"))
        parts += _lane(branch, shape, panel.steps, y, lane)
        y += lane + 8
        measured = differences(branch)
        if measured:
            parts.append(_differences(branch, measured, panel.steps, y))
            y += _CHART
        y += 12
    column = (_WIDTH - _LABELS) / panel.steps
    parts += [
        _text(_LABELS + (step - 0.5) * column, y + 6, str(step), "middle")
        for step in ticks(panel.steps)
    ]
    label = escape(f"timeline of {panel.name}")
    head = f'<svg viewBox="0 0 {_WIDTH} {y + 14:.0f}" role="img" aria-label="{label}">'
    return "".join([head, *parts, "</svg>"])


def _lane(branch: BranchStats, shape: Shape, steps: int, top: float, height: float) -> list[str]:
    column, row = (_WIDTH - _LABELS) / steps, height / shape.blocks
    cached, parts = set(branch.cached_steps), []
    for step in branch.executed_steps:
        runs = [("computed", 0, shape.blocks, 0.0)]
        told = f"step {step + 1}: computed"
        share = 1.0 if step in cached else branch.partly_cached.get(step, 0.0)
        if share:
            end = shape.blocks - shape.last
            # Of the width of the step, as much as of the samples was computed.
            runs = [
                ("computed", 0, shape.first, 0.0),
                ("cached", shape.first, end, 0.0),
                ("computed", shape.first, end, share),
                ("computed", end, shape.blocks, 0.0),
            ]
            told = f"step {step + 1}: served from the cache"
            told += f" for {share:.0%} of the samples" if share < 1 else ""
        if branch.residual_diffs.get(step, -1) >= 0:
            told += f", difference {branch.residual_diffs[step]:.4f}"
        x, width = _LABELS + step * column, column - (1.5 if column > 6 else 0)
        bars = "".join(
            f'<rect class="{kind}" x="{x + width * left:.2f}" y="{top + first * row:.2f}" '
            f'width="{width * (1 - left):.2f}" height="{(end - first) * row:.2f}"/>'
            for kind, first, end, left in runs
            if end > first and left < 1
        )
        parts.append(f"<g><title>{told}</title>{bars}</g>")
    return parts


def _differences(branch: BranchStats, measured: dict[int, float], steps: int, top: float) -> str:
    column, bottom = (_WIDTH - _LABELS) / steps, top + _CHART - 8
    high = max([*measured.values(), branch.threshold, 1e-6]) * 1.12
    places = [
        (_LABELS + (step + 0.5) * column, bottom - (bottom - top) * min(diff / high, 1.0))
        for step, diff in sorted(measured.items())
    ]
    limit = bottom - (bottom - top) * min(branch.threshold / high, 1.0)
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return (
        _line("rule", _LABELS, bottom, _WIDTH, bottom)
        + _line("threshold", _LABELS, limit, _WIDTH, limit)
        + _text(_LABELS - 8, limit + 4, f"{branch.threshold:g}")
        + f'<polyline class="difference" points="{path}"/>'
    )


def _line(name: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str = "end", name: str = "axis") -> str:
    return (
        f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )
