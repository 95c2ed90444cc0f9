"""Tables and the chart of `benchmarks.frontier`: what each kind of cache needs for a quality."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, Final

from PIL import Image, ImageDraw

from cachedit_yaml.generating import drawing
from cachedit_yaml.generating.drawing import INK, MUTED, PANEL, PAPER, RULE, font

Rows = Mapping[tuple[str, str], Mapping[str, Any]]
#: Qualities in dB.
QUALITIES: Final = (32, 36, 40, 44, 47)
_COLORS: Final = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#975a16", "#285e61",
                  "#e53e3e", "#4a5568", "#38a169", "#d69e2e", "#805ad5", "#000000")  # fmt: skip
_SIZE: Final = (1100, 720)
_LEFT, _TOP, _RIGHT, _BOTTOM = 90, 70, 820, 640


def front(rows: Rows, kind: str, measure: str) -> list[tuple[float, float]]:
    """Blocks and decibel of what nothing cheaper of the same kind equals, from cheap to dear."""
    found: list[tuple[float, float]] = []
    points = [(row["blocks"], row[measure]) for (name, _), row in rows.items() if name == kind]
    for blocks, decibel in sorted(points, key=lambda point: (point[0], -point[1])):
        if not found or decibel > found[-1][1]:
            found.append((blocks, decibel))
    return found


def needed(points: list[tuple[float, float]], decibel: float) -> str:
    """The share of blocks that a quality takes, between the settings that were run."""
    if not points or points[-1][1] < decibel:
        return "-"
    if points[0][1] >= decibel:
        return f"<= {points[0][0]:.1%}"
    for (low, worse), (high, better) in itertools.pairwise(points):
        if better >= decibel:
            return f"{low + (high - low) * (decibel - worse) / (better - worse):.1%}"
    raise AssertionError


def kinds_of(rows: Rows) -> list[str]:
    """Kinds, in the order in which they ran."""
    return list(dict.fromkeys(kind for kind, _ in rows))


def table(heading: str, rows: Rows) -> str:
    """All rows, and for each kind the blocks that a quality takes."""
    lines = [
        heading,
        f"{'':52}{'blocks':>8}{'pooled':>8}{'mean':>8}{'worst':>8}{'SSIM':>8}{'time':>7}",
    ]
    for (kind, settings), row in rows.items():
        lines.append(
            f"{kind + ': ' + settings:52}{row['blocks']:8.1%}{row['pooled']:8.1f}{row['mean']:8.1f}"
            f"{row['worst']:8.1f}{row['ssim']:8.4f}{row['time']:7.2f}"
        )
    for measure in ("pooled", "mean"):
        title = f"blocks for a {measure} PSNR of"
        lines += ["", f"{title:34}" + "".join(f"{f'{x} dB':>10}" for x in QUALITIES)]
        for kind in kinds_of(rows):
            points = front(rows, kind, measure)
            lines.append(f"{kind:34}" + "".join(f"{needed(points, x):>10}" for x in QUALITIES))
    return "\n".join(lines) + "\n"


def draw(title: str, rows: Rows) -> Image.Image:
    """The fronts: share of blocks across, mean PSNR upwards."""
    picture = Image.new("RGB", _SIZE, PAPER)
    pen = ImageDraw.Draw(picture)
    drawing.bold(pen, (_LEFT, 34), title, 22)
    pen.rectangle((_LEFT, _TOP, _RIGHT, _BOTTOM), PANEL)
    fronts = {kind: front(rows, kind, "mean") for kind in kinds_of(rows)}
    low, high, most = 25, 60, 0.6

    def at(blocks: float, decibel: float) -> tuple[float, float]:
        x = _LEFT + (_RIGHT - _LEFT) * min(blocks, most) / most
        rise = (min(max(decibel, low), high) - low) / (high - low)
        return x, _BOTTOM - (_BOTTOM - _TOP) * rise

    for decibel in range(low, high + 1, 5):
        y = at(0, decibel)[1]
        pen.line((_LEFT, y, _RIGHT, y), RULE, 1)
        pen.text((_LEFT - 10, y), f"{decibel} dB", MUTED, font(15), anchor="rm")
    for tenth in range(round(most * 10) + 1):
        pen.text((at(tenth / 10, low)[0], _BOTTOM + 18), f"{10 * tenth} %", MUTED, font(15), "mm")
    label = "share of the blocks that ran; mean PSNR against the uncached pictures"
    pen.text(((_LEFT + _RIGHT) / 2, _BOTTOM + 50), label, MUTED, font(16), anchor="mm")
    for place, (kind, points) in enumerate(fronts.items()):
        color = _COLORS[place % len(_COLORS)]
        shown = [at(*point) for point in points if point[0] <= most and math.isfinite(point[1])]
        if len(shown) > 1:
            pen.line(shown, color, 4 if kind.startswith("tuned") else 2)
        for x, y in shown:
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), color)
        y = _TOP + 12 + 26 * place
        pen.ellipse((_RIGHT + 20, y - 6, _RIGHT + 32, y + 6), color)
        pen.text((_RIGHT + 42, y), kind, INK, font(16), anchor="lm")
    return picture
