"""``frontier.png`` and ``report.html``: what measured settings cost, and how near they come."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cachedit_yaml.generating import drawing
from cachedit_yaml.generating.drawing import CACHED, COMPUTED, INK, MUTED, PANEL, PAPER, RULE, font
from cachedit_yaml.tuning.targets import NOT_TIMED

if TYPE_CHECKING:
    from PIL.Image import Image

    from cachedit_yaml.generating.svg import Point
    from cachedit_yaml.tuning.targets import Measured
    from cachedit_yaml.tuning.tune import Tuning

_SIZE: Final = (1280, 800)
_LEFT, _TOP, _RIGHT, _BOTTOM = 110, 130, 1240, 700


def draw_frontier(tuning: Tuning) -> Image:
    """Cost against quality: a point for all samples together, a bar from the worst to the best."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", _SIZE, PAPER)
    draw = ImageDraw.Draw(picture)
    title = f"{tuning.title}: what was measured on {tuning.samples} samples"
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
    label = f"share of the blocks that ran; {tuning.what.partition(';')[0]}"
    label = drawing.shorten(label, 1220, 18)
    draw.text((_SIZE[0] / 2, _BOTTOM + 60), label, MUTED, font(18), anchor="mm")
    colors = {"tried": MUTED, "profile": CACHED, "chosen": COMPUTED}
    for item in sorted(points, key=lambda item: list(colors).index(_kind(tuning, item))):
        color = colors[_kind(tuning, item)]
        x, y = at(item.blocks, item.likeness.pooled)
        best = max((value for value in item.likeness.each if math.isfinite(value)), default=high)
        bar = at(0, item.likeness.worst)[1], at(0, best)[1]
        draw.line((x, bar[1], x, bar[0]), color, 2)
        draw.ellipse((x - 8, y - 8, x + 8, y + 8), color)
        name = item.name or tuning.names.get(item.key, "")
        draw.text((x + 14, y - 4), name, INK, font(20), anchor="ls")
    return picture


def draw_page(tuning: Tuning) -> str:
    """``report.html``: every candidate, the worst pictures, the timelines of what was chosen."""
    from cachedit_yaml.generating.page import Report, Table, render

    others = tuning.others
    header = (
        "profile",
        "blocks",
        "speed-up",
        "PSNR",
        "worst quarter",
        "worst",
        *others,
        "settings",
    )
    panels = [
        replace(tuning.timelines[key], name=f"{names}: {key}")
        for key, names in tuning.names.items()
        if key in tuning.timelines
    ]
    missed = [
        f"Nothing reached {item.kind}={item.value:g} for the profile {item.profile}."
        for item in tuning.missed
    ]
    report = Report(
        title=tuning.title,
        lead=f"The adapter {tuning.adapter.name} with the model {tuning.model} on {tuning.device}. "
        f"{tuning.what}.",
        points=[_point(tuning, item) for item in tuning.frontier],
        tables=[
            Table(
                "Profiles", header, [_cells(tuning, n, item) for n, item in tuning.profiles.items()]
            ),
            Table(
                "Everything that was run",
                header,
                [_cells(tuning, _name(tuning, item), item) for item in tuning.frontier],
            ),
        ],
        panels=panels,
        notes=[f"Speed-ups: {NOT_TIMED}.", *missed, *tuning.notes],
    )
    return render(report)


def _point(tuning: Tuning, item: Measured) -> Point:
    from PIL import Image

    from cachedit_yaml.generating.svg import Point

    near = item.likeness
    pair = tuning.worst.get((item.name, item.key), ())
    titles = ("uncached", f"worst sample, {_decibel(near.worst)}")
    return Point(
        name=item.name or tuning.names.get(item.key, ""),
        kind=_kind(tuning, item),
        blocks=item.blocks,
        psnr=near.pooled,
        worst=near.worst,
        best=max(near.each),
        lines=[str(item), item.told if item.name else item.key],
        pictures=[(title, Image.fromarray(x)) for title, x in zip(titles, pair, strict=False)],
    )


def _kind(tuning: Tuning, item: Measured) -> str:
    if item.name:
        return "profile"
    return "chosen" if item.key in tuning.names else "tried"


def _name(tuning: Tuning, item: Measured) -> str:
    return f"({item.name} before)" if item.name else tuning.names.get(item.key, "-")


def _decibel(value: float) -> str:
    return "identical" if value == math.inf else f"{value:.1f} dB"


def _cells(tuning: Tuning, name: str, item: Measured) -> tuple[str, ...]:
    near = item.likeness
    decibels = map(_decibel, (near.pooled, near.low, near.worst))
    others = near.others()
    beside = (others.get(kind, "-") for kind in tuning.others)
    settings = item.told if item.name else item.key
    return name, f"{item.blocks:.1%}", item.speed_text, *decibels, *beside, settings
