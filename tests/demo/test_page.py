"""``report.html``: it parses, holds everything, fetches nothing, and runs nobody's text."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from cachedit_yaml.generating.page import LARGEST, Report, Table, render
from cachedit_yaml.generating.sheet import Row
from cachedit_yaml.generating.svg import Point, draw_frontier, draw_timeline
from cachedit_yaml.generating.timeline import Panel, Shape
from cachedit_yaml.runtime.stats import BranchStats
from cachedit_yaml.yaml.diagnostics import plain
from tests.demo.pages import read

EVIL = "</title></svg></style><script>alert(1)</script>\"' onload='x' & \N{SNOWMAN}\x1b[31m\u202e"


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def branch(name: str = "cond", **more: object) -> BranchStats:
    values = {
        "transformer": "transformer",
        "blocks": "blocks",
        "branch": name,
        "executed_steps": (0, 1, 3),
        "cached_steps": (1,),
        "residual_diffs": {1: 0.1, 3: 0.3},
        "threshold": 0.2,
        "computed_blocks": 10,
        "total_blocks": 12,
    }
    return BranchStats(**{**values, **more})  # type: ignore[arg-type]


SHAPES = {("transformer", "blocks"): Shape(4, 1, 1, 3)}


def test_text_of_others_is_escaped() -> None:
    report = Report(
        title=EVIL,
        lead=EVIL,
        tables=[Table(EVIL, [EVIL], [[EVIL]])],
        points=[Point(EVIL, "chosen", 0.5, 30.0, 20.0, 40.0, [EVIL], [(EVIL, noise(8, 8))])],
        columns=[EVIL],
        rows=[Row(EVIL, [EVIL], [noise(8, 8)])],
        panels=[Panel(EVIL, EVIL, 4, [branch(EVIL, blocks=EVIL)], {})],
        notes=[EVIL],
    )
    text = render(report)
    page = read(text)
    assert "<script>alert" not in text
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert page.elements.count("script") == 1
    assert page.elements.count("title") == 1 + 1 + 3  # the page, the point, the steps
    assert page.rows == [[plain(EVIL)]]
    assert page.text.count(plain(EVIL)) >= 11
    # In the label of a list, a long name is cut before it is escaped.
    assert EVIL[:25] + "..." in page.text


def test_nothing_is_fetched() -> None:
    text = render(Report("title", "lead", points=[Point("a", "tried", 0.5, 30.0, 20.0, 40.0)]))
    assert "http:" not in text
    assert "https:" not in text
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert read(text).points == ["0"]


def test_what_is_empty_is_left_out() -> None:
    page = read(render(Report("title", "lead")))
    assert {"section", "svg", "script", "table", "img"}.isdisjoint(page.elements)


@pytest.mark.parametrize("value", [math.inf, math.nan, 0.0, 35.0])
def test_every_point_has_a_place(value: float) -> None:
    """Equal results are infinitely near, and latents may hold no numbers."""
    points = [Point("", "tried", share, value, value, value) for share in (0.0, 0.3, 1.0)]
    found = draw_frontier(points)
    assert found.count("<circle") == 3
    assert "nan" not in found
    assert "inf" not in found
    heights = {part.split('"')[1] for part in found.split("<circle ")[1:] if 'cy="' in part}
    assert heights == {"70.0", "338.5", "965.0"}


def test_better_is_higher_and_dearer_is_further_right() -> None:
    found = draw_frontier(
        [
            Point("", "tried", 0.2, 30.0, 28.0, 31.0),
            Point("fast", "chosen", 0.4, 40.0, 38.0, 44.0),
        ]
    )
    places = [part.split('"')[1:4:2] for part in found.split("<circle ")[1:]]
    (x1, y1), (x2, y2) = (tuple(map(float, place)) for place in places)
    assert x1 < x2
    assert y1 > y2


def test_timeline_shows_what_ran() -> None:
    panel = Panel("fast", "note", 4, [branch()], SHAPES)
    found = draw_timeline(panel)
    # Two computed steps whole; in the cached one the first and the last block ran.
    assert found.count('class="computed"') == 2 + 2
    assert found.count('class="cached"') == 1
    assert "step 2: served from the cache, difference 0.1000" in found
    assert "step 3:" not in found
    assert 'class="threshold"' in found
    follower = branch(residual_diffs={}, follows="others")
    without = draw_timeline(Panel("fast", "note", 4, [follower], SHAPES))
    assert 'class="threshold"' not in without
    # F = 0 and B = 0: no block ran.
    bare = draw_timeline(
        Panel("fast", "note", 4, [branch()], {("transformer", "blocks"): Shape(4, 0, 0)})
    )
    assert bare.count('class="computed"') == 2


def test_large_pictures_are_made_smaller() -> None:
    rows = [Row("uncached", [], [noise(2 * LARGEST, LARGEST), noise(16, 24)])]
    page = read(render(Report("title", "lead", columns=["one", "two"], rows=rows)))
    sizes = []
    for data in page.pictures:
        with Image.open(io.BytesIO(data)) as picture:
            sizes.append(picture.size)
    assert sizes == [(LARGEST, LARGEST // 2), (16, 24)]
