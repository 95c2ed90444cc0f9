"""Fonts, colours and shapes that the demo's pictures share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

Point: TypeAlias = "tuple[float, float]"

INK: Final = "#1d2433"
MUTED: Final = "#667085"
PAPER: Final = "#ffffff"
PANEL: Final = "#f5f7fa"
RULE: Final = "#d5dbe5"
#: Blue and amber differ in lightness too, so that everyone can tell them apart.
COMPUTED: Final = "#2b6cb0"
CACHED: Final = "#fbd38d"
DIFFERENCE: Final = "#2d3748"
THRESHOLD: Final = "#c53030"


def font(size: int) -> Any:
    """Pillow's own font at a size."""
    from PIL import ImageFont

    return ImageFont.load_default(size=size)


def bold(draw: ImageDraw, place: Point, text: str, size: int) -> None:
    """Write heavier text: the font has one weight only."""
    for shift in (0, size / 28):
        draw.text((place[0] + shift, place[1]), text, INK, font(size), anchor="lm")


def enlarge(picture: Image, side: int, radius: int) -> Image:
    """Bring a picture to a width, with round corners that show what lies beneath."""
    from PIL import Image, ImageDraw

    height = round(picture.height * side / picture.width)
    large = picture.convert("RGB").resize((side, height), Image.Resampling.LANCZOS)
    mask = Image.new("L", (side * 4, height * 4), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, side * 4 - 1, height * 4 - 1), radius * 4, 255)
    large.putalpha(mask.resize((side, height), Image.Resampling.LANCZOS))
    return large


def dashed(draw: ImageDraw, left: float, right: float, y: float, color: str, width: int) -> None:
    """Draw a dashed horizontal line."""
    dash, gap = width * 5, width * 4
    x = left
    while x < right:
        draw.line((x, y, min(x + dash, right), y), color, width)
        x += dash + gap


def curve(picture: Image, points: Sequence[Point], color: str, width: int) -> None:
    """Draw a line through points, with a dot on each, without jagged edges."""
    from PIL import Image, ImageDraw

    if not points:
        return
    fine, room = 4, width * 3
    left, top = (int(min(axis)) - room for axis in zip(*points, strict=True))
    right, bottom = (int(max(axis)) + room for axis in zip(*points, strict=True))
    size = (right - left, bottom - top)
    mask = Image.new("L", (size[0] * fine, size[1] * fine), 0)
    draw = ImageDraw.Draw(mask)
    places = [((x - left) * fine, (y - top) * fine) for x, y in points]
    if len(places) > 1:
        draw.line(places, 255, width * fine, joint="curve")
    radius = width * 1.6 * fine
    for x, y in places:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), 255)
    picture.paste(color, (left, top), mask.resize(size, Image.Resampling.LANCZOS))


def shorten(text: str, width: float, size: int) -> str:
    """Cut a text so that it is at most so wide."""
    letters = font(size)
    if letters.getlength(text) <= width:
        return text
    while text and letters.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."
