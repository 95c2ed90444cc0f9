"""``frontier.png``: what each of the measured settings costs, and how near it comes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from cachedit_yaml.generating import drawing
from cachedit_yaml.generating.drawing import CACHED, COMPUTED, INK, MUTED, PANEL, PAPER, RULE, font

if TYPE_CHECKING:
    from PIL.Image import Image

    from cachedit_yaml.tuning.targets import Measured
    from cachedit_yaml.tuning.tune import Tuning

_SIZE: Final = (1280, 800)
_LEFT, _TOP, _RIGHT, _BOTTOM = 110, 130, 1240, 700


def draw_frontier(tuning: Tuning) -> Image:
    """Cost against quality: a point for all samples together, a bar from the worst to the best."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", _SIZE, PAPER)
    draw = ImageDraw.Draw(picture)
    title = f"{tuning.model}, {tuning.steps} steps: what was measured on {tuning.samples} samples"
    drawing.bold(draw, (48, 46), drawing.shorten(title, 1160, 28), 28)
    x = 48.0
    for color, text in (
        (COMPUTED, "chosen"),
        (MUTED, "tried"),
        (CACHED, "profile of the adapter"),
    ):
        draw.ellipse((x, 84, x + 16, 100), color)
        draw.text((x + 26, 92), text, INK, font(20), anchor="lm")
        x += 60 + font(20).getlength(text)
    draw.text((x, 92), "bars: from the worst sample to the best", MUTED, font(20), anchor="lm")
    draw.rectangle((_LEFT, _TOP, _RIGHT, _BOTTOM), PANEL)
    points = [item for item in tuning.frontier if math.isfinite(item.likeness.pooled)]
    if not points:
        return picture
    ends = [x for item in points for x in item.likeness.each if math.isfinite(x)]
    low, high = math.floor(min(ends) / 5) * 5, math.ceil(max(ends) / 5) * 5
    most = math.ceil(max(item.blocks for item in points) * 10) / 10

    def at(blocks: float, decibel: float) -> drawing.Point:
        rise = (min(decibel, high) - low) / max(high - low, 1)
        return _LEFT + (_RIGHT - _LEFT) * blocks / most, _BOTTOM - (_BOTTOM - _TOP) * rise

    for decibel in range(low, high + 1, 5):
        y = at(0, decibel)[1]
        draw.line((_LEFT, y, _RIGHT, y), RULE, 1)
        draw.text((_LEFT - 12, y), f"{decibel} dB", MUTED, font(18), anchor="rm")
    for tenth in range(round(most * 10) + 1):
        x = at(tenth / 10, low)[0]
        draw.text((x, _BOTTOM + 22), f"{10 * tenth} %", MUTED, font(18), anchor="mm")
    label = "share of the blocks that ran; PSNR against the uncached result, in dB"
    draw.text(((_LEFT + _RIGHT) / 2, _BOTTOM + 60), label, MUTED, font(20), anchor="mm")
    chosen = tuning.names

    def rank(item: Measured) -> int:
        return 2 if item.key in chosen and not item.name else int(bool(item.name))

    for item in sorted(points, key=rank):
        color = (MUTED, CACHED, COMPUTED)[rank(item)]
        x, y = at(item.blocks, item.likeness.pooled)
        best = max((value for value in item.likeness.each if math.isfinite(value)), default=high)
        bar = at(0, item.likeness.worst)[1], at(0, best)[1]
        draw.line((x, bar[1], x, bar[0]), color, 2)
        draw.ellipse((x - 8, y - 8, x + 8, y + 8), color)
        name = chosen.get(item.key, "") if rank(item) == 2 else item.name
        draw.text((x + 14, y - 4), name, INK, font(20), anchor="ls")
    return picture
