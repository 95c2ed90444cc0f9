"""A sheet of pictures side by side: what was made without the cache, and with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cachedit_yaml.generating.drawing import INK, MUTED, PAPER, bold, enlarge, font, shorten

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

_MARGIN: Final = 36
_CAPTION: Final = 250
_GAP: Final = 14
_HEAD: Final = 96


@dataclass(frozen=True)
class Row:
    """One row of a sheet.

    Attributes:
        name: what made the pictures.
        lines: what is to be said about them, below the name.
        pictures: one for each column.
    """

    name: str
    lines: Sequence[str]
    pictures: Sequence[Image]


def draw_sheet(title: str, columns: Sequence[str], rows: Sequence[Row], side: int = 192) -> Image:
    """Draw the sheet.

    Args:
        title: the line above everything.
        columns: a name for each column.
        rows: the rows, from above.
        side: the width of a picture on the sheet.
    """
    from PIL import Image, ImageDraw

    # Pictures of different shapes get the room that the tallest one needs.
    height = max(
        round(picture.height * side / picture.width) for row in rows for picture in row.pictures
    )
    size = (
        2 * _MARGIN + _CAPTION + len(columns) * (side + _GAP) - _GAP,
        _MARGIN + _HEAD + len(rows) * (height + _GAP) - _GAP + _MARGIN,
    )
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    bold(draw, (_MARGIN, _MARGIN + 14), shorten(title, size[0] - 2 * _MARGIN, 26), 26)
    for index, name in enumerate(columns):
        x = _MARGIN + _CAPTION + index * (side + _GAP) + side / 2
        draw.text((x, _MARGIN + _HEAD - 20), shorten(name, side, 20), MUTED, font(20), anchor="mm")
    for order, row in enumerate(rows):
        y = _MARGIN + _HEAD + order * (height + _GAP)
        _caption(draw, row, y + height / 2)
        for index, picture in enumerate(row.pictures):
            large = enlarge(picture, side, radius=round(side / 14))
            x = _MARGIN + _CAPTION + index * (side + _GAP)
            sheet.paste(large, (x, y), large)
    return sheet


def _caption(draw: ImageDraw, row: Row, middle: float) -> None:
    top = middle - 15 * len(row.lines)
    bold(draw, (_MARGIN, top), row.name, 28)
    for index, line in enumerate(row.lines):
        color = INK if index == 0 else MUTED
        draw.text((_MARGIN, top + 36 + 28 * index), line, color, font(20), anchor="lm")
