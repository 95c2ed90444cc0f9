"""The timeline of generations: which blocks ran at which step, and why.

Steps go across. Each guidance branch of each block list has a lane with one row for each of its
blocks, and below it the residual difference with the threshold that it was held against, where one
was measured: under a static mask none is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cachedit_yaml.generating import drawing
from cachedit_yaml.generating.drawing import CACHED, COMPUTED, INK, MUTED, PANEL, PAPER, RULE, font

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

    from cachedit_yaml.runtime.stats import BranchStats

_MARGIN: Final = 48
_LEFT: Final = 250
_WIDTH: Final = 1500
_HEAD: Final = 128
_PANEL_HEAD: Final = 62
_CHART: Final = 150
_TICKS: Final = 30
_LANE_GAP: Final = 22
_PANEL_GAP: Final = 26
_PAD: Final = 28
_FOOT: Final = 6
#: What is written beside a lane.
_LABELS: Final = 140
#: Rows are this high at most, and a lane about so high in all.
_ROW: Final = 14
_LANE: Final = 160


@dataclass(frozen=True)
class Shape:
    """One block list.

    Attributes:
        blocks: how many there are.
        first: so many of the first ones always run.
        last: so many of the last ones always run.
        in_a_row: so many steps in a row may be cached; -1 for no limit.
    """

    blocks: int
    first: int
    last: int
    in_a_row: int = -1


@dataclass(frozen=True)
class Panel:
    """One generation.

    Attributes:
        name: what it is called.
        note: what is to be said about it.
        steps: how many steps it had.
        branches: what each branch of each list did.
        shapes: the block lists, by transformer and path.
    """

    name: str
    note: str
    steps: int
    branches: Sequence[BranchStats]
    shapes: Mapping[tuple[str, str], Shape]

    def shape(self, branch: BranchStats) -> Shape:
        """The blocks of a branch's list."""
        return self.shapes.get((branch.transformer, branch.blocks), Shape(1, 0, 0))

    @property
    def height(self) -> int:
        """How much room it needs."""
        return _PANEL_HEAD + sum(_height(self.shape(item), item) for item in self.branches) + _FOOT


def draw_timeline(title: str, panels: Sequence[Panel]) -> Image:
    """Draw the panels below each other."""
    from PIL import Image, ImageDraw

    width = 2 * _MARGIN + 2 * _PAD + _LEFT + _WIDTH
    height = _HEAD + sum(panel.height + _PANEL_GAP for panel in panels) + _MARGIN - _PANEL_GAP
    picture = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(picture)
    drawing.bold(draw, (_MARGIN, 46), title, 32)
    _legend(picture, _MARGIN, 94, any(map(differences, (x for p in panels for x in p.branches))))
    top = _HEAD
    for panel in panels:
        _draw_panel(picture, panel, top)
        top += panel.height + _PANEL_GAP
    return picture


def differences(branch: BranchStats) -> dict[int, float]:
    """What was measured of a branch, by step: nothing of a list that follows or has a mask."""
    if branch.follows is not None:
        return {}
    return {step: diff for step, diff in branch.residual_diffs.items() if 0 <= diff < math.inf}


def _legend(picture: Image, x: float, y: float, charts: bool) -> None:
    from PIL import ImageDraw

    draw = ImageDraw.Draw(picture)
    for color, text in ((COMPUTED, "block computed"), (CACHED, "served from the cache")):
        draw.rounded_rectangle((x, y - 11, x + 30, y + 11), 4, color)
        draw.text((x + 42, y), text, INK, font(21), anchor="lm")
        x += 84 + font(21).getlength(text)
    if not charts:
        return
    drawing.curve(picture, [(x, y), (x + 18, y), (x + 36, y)], drawing.DIFFERENCE, 3)
    text = "residual difference to the last computed step"
    draw.text((x + 48, y), text, INK, font(21), anchor="lm")
    x += 90 + font(21).getlength(text)
    drawing.dashed(draw, x, x + 44, y, drawing.THRESHOLD, 3)
    draw.text((x + 56, y), "threshold: below it, the step hits", INK, font(21), anchor="lm")


def _draw_panel(picture: Image, panel: Panel, top: float) -> None:
    from PIL import ImageDraw

    draw = ImageDraw.Draw(picture)
    right = picture.width - _MARGIN
    draw.rounded_rectangle((_MARGIN, top, right, top + panel.height), 16, PANEL)
    x = _MARGIN + _PAD
    drawing.bold(draw, (x, top + 34), panel.name, 28)
    draw.text((x + _LEFT, top + 34), panel.note, MUTED, font(22), anchor="lm")
    y = top + _PANEL_HEAD
    lists = [(branch.transformer, branch.blocks) for branch in panel.branches]
    for branch, key in zip(panel.branches, lists, strict=True):
        shape = panel.shape(branch)
        lane = _lane_height(shape)
        _labels(draw, branch, shape, (x, y + lane / 2), alone=lists.count(key) == 1)
        _draw_lane(draw, branch, shape, panel.steps, x + _LEFT, y, lane)
        measured = differences(branch)
        if measured:
            _draw_chart(picture, measured, branch.threshold, panel.steps, x + _LEFT, y + lane + 12)
        elif branch.follows is None:
            _draw_ticks(draw, panel.steps, x + _LEFT, y + lane)
        y += _height(shape, branch)


def _labels(
    draw: ImageDraw, branch: BranchStats, shape: Shape, place: drawing.Point, alone: bool
) -> None:
    first = 0 if branch.follows is not None else shape.first
    counts = [str(first)] if first else []
    counts += [f"last {shape.last}"] if shape.last else []
    always = " + ".join(counts or ["none"]) + " always"
    lines = [drawing.shorten(branch.blocks, _LEFT - 20, 20), f"{shape.blocks} blocks, {always}"]
    if branch.transformer != "transformer":
        lines.insert(1, f"in {drawing.shorten(branch.transformer, _LEFT - 40, 20)}")
    if not alone:
        lines.append(f"branch {branch.branch}")
    lines.append(branch.steps_cached)
    if branch.follows is not None:
        lines.append(f"follows {drawing.shorten(branch.follows, _LEFT - 100, 20)}")
    elif shape.in_a_row >= 0:
        lines.append(f"at most {shape.in_a_row} in a row")
    for index, line in enumerate(lines):
        at = (place[0], place[1] + 27 * (index - (len(lines) - 1) / 2))
        draw.text(at, line, INK if index == 0 else MUTED, font(20), anchor="lm")


def _draw_lane(
    draw: ImageDraw,
    branch: BranchStats,
    shape: Shape,
    steps: int,
    left: float,
    top: float,
    height: float,
) -> None:
    """One cell for each block at each step; where there are many blocks, they run together."""
    cached, executed = set(branch.cached_steps), set(branch.executed_steps)
    column, row = _WIDTH / steps, height / shape.blocks
    across = 2 if column > 8 else 0
    down = 1 if row > 5 else 0
    for step in range(steps):
        if step not in executed:
            continue
        for block in range(shape.blocks):
            always = block < shape.first or block >= shape.blocks - shape.last
            share = 1.0 if step in cached else branch.partly_cached.get(step, 0.0)
            share = 0.0 if always else share
            x, y = left + step * column, top + block * row
            width = column - 1 - across
            draw.rectangle((x, y, x + width, y + row - 1 - down), CACHED if share else COMPUTED)
            if 0 < share < 1:  # of the width, as much as of the samples was computed
                draw.rectangle((x + width * share, y, x + width, y + row - 1 - down), COMPUTED)


def _draw_chart(
    picture: Image,
    measured: Mapping[int, float],
    threshold: float,
    steps: int,
    left: float,
    top: float,
) -> None:
    """The differences that were measured, and the threshold."""
    from PIL import ImageDraw

    draw = ImageDraw.Draw(picture)
    column, bottom = _WIDTH / steps, top + _CHART - 44
    high = max([*measured.values(), threshold, 1e-6]) * 1.12

    def at(value: float) -> float:
        return bottom - (bottom - top) * min(value / high, 1.0)

    draw.line((left, bottom, left + _WIDTH, bottom), RULE, 2)
    draw.text((left - 12, at(0)), "0", MUTED, font(18), anchor="rm")
    drawing.dashed(draw, left, left + _WIDTH, at(threshold), drawing.THRESHOLD, 3)
    place = (left - 12, at(threshold))
    draw.text(place, f"{threshold:g}", drawing.THRESHOLD, font(18), anchor="rm")
    points = [(left + (step + 0.5) * column - 1, at(diff)) for step, diff in measured.items()]
    drawing.curve(picture, points, drawing.DIFFERENCE, 3)
    _draw_ticks(draw, steps, left, bottom)


def _draw_ticks(draw: ImageDraw, steps: int, left: float, bottom: float) -> None:
    """The numbers of the steps."""
    for step in ticks(steps):
        place = (left + (step - 0.5) * _WIDTH / steps - 1, bottom + 16)
        draw.text(place, str(step), MUTED, font(18), anchor="mm")
    draw.text((left - 12, bottom + 16), "step", MUTED, font(18), anchor="rm")


def ticks(steps: int) -> list[int]:
    """Steps to name, counted from 1."""
    every = max(1, round(steps / 10)) if steps <= 20 else 5 * max(1, round(steps / 50))
    return sorted({1, *range(every, steps + 1, every)})


def _height(shape: Shape, branch: BranchStats) -> int:
    """The room of a lane with what is below it: the differences, or the steps alone."""
    lane = _lane_height(shape)
    return _LANE_GAP + (lane + _CHART if differences(branch) else max(lane + _TICKS, _LABELS))


def _lane_height(shape: Shape) -> int:
    return min(shape.blocks * _ROW, max(_LANE, shape.blocks * 2))


def shapes_of(plan: Any, steps: int | None) -> dict[tuple[str, str], Shape]:
    """The block lists of a compiled plan, by transformer and path."""
    found = {}
    for transformer, item in plan.block_lists:
        resolved = item.layers.resolve(steps)
        shape = Shape(
            len(item.blocks),
            resolved.fn,
            resolved.bn,
            int(resolved.values["max_continuous_cached_steps"]),
        )
        found[transformer.path, item.path] = shape
    return found
