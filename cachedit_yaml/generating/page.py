"""``report.html``: charts, pictures and numbers in one file that needs nothing beside it.

All text is escaped, pictures are data URIs, and a content security policy keeps the page off the
network. Colours follow the reader's choice of light or dark.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cachedit_yaml.generating import drawing, svg
from cachedit_yaml.generating.svg import escape
from cachedit_yaml.generating.timeline import differences

if TYPE_CHECKING:
    from PIL.Image import Image

    from cachedit_yaml.generating.sheet import Row
    from cachedit_yaml.generating.svg import Point
    from cachedit_yaml.generating.timeline import Panel

#: Pictures are at most so wide and high, in pixels.
LARGEST: Final = 512

_STYLE: Final = f"""
:root {{ color-scheme: light dark; --ink: {drawing.INK}; --muted: {drawing.MUTED};
  --paper: {drawing.PAPER}; --panel: {drawing.PANEL}; --rule: {drawing.RULE};
  --computed: {drawing.COMPUTED}; --cached: {drawing.CACHED}; --profile: #b7791f;
  --threshold: {drawing.THRESHOLD}; --tried: #98a2b3; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e6e9ef; --muted: #9aa4b5; --paper: #14171f;
  --panel: #1d222d; --rule: #343b4a; --computed: #63a4e8; --cached: #8a6a35; --profile: #e0a94a;
  --threshold: #f2797b; --tried: #6b7588; }} }}
body {{ margin: 0 auto; padding: 1.5rem; max-width: 70rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.5rem; }} h2 {{ font-size: 1.15rem; margin-top: 2rem; }} h3 {{ font-size: 1rem; }}
section > svg, .wide, #detail {{ background: var(--panel); border-radius: 10px; padding: 12px;
  box-sizing: border-box; }}
svg {{ width: 100%; height: auto; }} text {{ font-size: 13px; fill: var(--muted); }}
.name {{ fill: var(--ink); font-weight: 600; }} .note, figcaption {{ color: var(--muted); }}
.wide {{ overflow-x: auto; margin: .5rem 0; }} .wide svg {{ min-width: 640px; }}
.rule {{ stroke: var(--rule); }} rect.computed {{ fill: var(--computed); }}
rect.cached {{ fill: var(--cached); }} .bar {{ stroke-width: 2; }}
.threshold {{ stroke: var(--threshold); stroke-dasharray: 6 5; stroke-width: 1.5; }}
.difference {{ fill: none; stroke: var(--ink); stroke-width: 1.5; }}
.point {{ cursor: pointer; outline: none; }} .point:is(:hover, :focus) circle {{ r: 10px; }}
.point:focus-visible circle {{ stroke: var(--ink); stroke-width: 2; }}
.tried {{ fill: var(--tried); stroke: var(--tried); }} .point text {{ stroke: none; }}
.profile {{ fill: var(--profile); stroke: var(--profile); }}
.chosen {{ fill: var(--computed); stroke: var(--computed); }}
.key {{ display: inline-block; width: .8em; height: .8em; border-radius: 50%;
  margin: 0 .35em 0 1em; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
td:not(:last-child) {{ white-space: nowrap; }}
th, td {{ text-align: left; padding: .3rem .7rem; border-bottom: 1px solid var(--rule); }}
img {{ max-width: 100%; border-radius: 8px; display: block; }} #detail {{ margin-top: 8px; }}
figure {{ margin: 0; width: 192px; }} .row {{ display: flex; flex-wrap: wrap; gap: 12px; }}
""".replace("\n  ", " ")

_SCRIPT: Final = """
const details = document.querySelectorAll("#detail > div");
const show = (event) => {
  const point = event.target.closest("[data-point]");
  if (point) details.forEach((item, index) => { item.hidden = index !== +point.dataset.point; });
};
for (const name of ["mouseover", "focusin", "click"]) document.addEventListener(name, show);
"""
#: What the points are: the colour and the words of each kind.
_KINDS: Final = {
    "chosen": ("computed", "chosen"),
    "tried": ("tried", "tried"),
    "profile": ("profile", "profile of the adapter"),
}
_STEPS: Final = (
    ("computed", "block computed"),
    ("cached", "served from the cache"),
    ("ink", "line: residual difference to the last computed step"),
    ("threshold", "dashed: the threshold, below which a step hits"),
)


@dataclass(frozen=True)
class Table:
    """Numbers.

    Attributes:
        title: what they are.
        header: the names of the columns.
        rows: the cells, as text.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Report:
    """What a page shows; what is empty is left out.

    Attributes:
        title: the line above everything.
        lead: a sentence below it.
        tables: the numbers.
        points: cost against quality.
        columns: what the pictures of each row show, one for each column.
        rows: pictures side by side, the uncached ones first.
        panels: the timelines.
        notes: what else there is to say, one sentence each.
    """

    title: str
    lead: str
    tables: Sequence[Table] = ()
    points: Sequence[Point] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Row] = ()
    panels: Sequence[Panel] = ()
    notes: Sequence[str] = ()


def render(report: Report) -> str:
    """The page as HTML."""
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(report.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f'<h1>{escape(report.title)}</h1>\n<p class="note">{escape(report.lead)}</p>',
    ]
    if report.points:
        parts.append(_frontier(report.points))
    parts += map(_table, report.tables)
    parts += [f'<p class="note">{escape(note)}</p>' for note in report.notes]
    if report.rows:
        parts.append("<section><h2>Pictures</h2>")
        parts += [_row(row, report.columns) for row in report.rows]
        parts.append("</section>")
    if report.panels:
        charts = any(differences(item) for panel in report.panels for item in panel.branches)
        words = _STEPS if charts else _STEPS[:2]
        parts.append(
            f'<section><h2>What ran at which step</h2>\n<p class="note">{_legend(words)}</p>'
        )
        for panel in report.panels:
            parts.append(f"<h3>{escape(panel.name)}</h3>")
            parts.append(f'<p class="note">{escape(panel.note)}</p>')
            parts.append(f'<div class="wide">{svg.draw_timeline(panel)}</div>')
        parts.append("</section>")
    if report.points:
        parts.append(f"<script>{_SCRIPT}</script>")
    return "\n".join([*parts, "</body>\n</html>\n"])


def data_uri(picture: Image) -> str:
    """A picture as the address of itself, at most :data:`LARGEST` pixels wide and high."""
    small = picture.convert("RGB")
    small.thumbnail((LARGEST, LARGEST))
    file = io.BytesIO()
    small.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _frontier(points: Sequence[Point]) -> str:
    details = []
    kinds = [item.kind for item in points]
    shown = kinds.index("chosen") if "chosen" in kinds else 0
    legend = _legend([words for kind, words in _KINDS.items() if kind in kinds])
    for index, item in enumerate(points):
        pictures = "".join(_figure(picture, name) for name, picture in item.pictures)
        lines = "".join(f"<br>{escape(line)}" for line in item.lines)
        details.append(
            f"<div{'' if index == shown else ' hidden'}>"
            f"<p><b>{escape(item.name)} ({_KINDS[item.kind][1]})</b>{lines}</p>"
            f'<div class="row">{pictures}</div></div>'
        )
    return (
        f'<section><h2>Cost against quality</h2>\n<p class="note">{legend}; bars: from the worst '
        f"sample to the best. Hover over one, or tab to it.</p>\n{svg.draw_frontier(points)}\n"
        f'<div id="detail">{"".join(details)}</div></section>'
    )


def _legend(words: Sequence[tuple[str, str]]) -> str:
    return "".join(
        f'<span class="key" style="background: var(--{color})"></span>{text}'
        for color, text in words
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.header)
    rows = [
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    ]
    return (
        f'<section><h2>{escape(table.title)}</h2>\n<div class="wide"><table>\n<tr>{head}</tr>\n'
        + "\n".join(rows)
        + "\n</table></div></section>"
    )


def _row(row: Row, columns: Sequence[str]) -> str:
    names = columns if len(columns) == len(row.pictures) else [""] * len(row.pictures)
    figures = [_figure(picture, name) for picture, name in zip(row.pictures, names, strict=True)]
    note = escape("; ".join(row.lines))
    return (
        f'<h3>{escape(row.name)}</h3>\n<p class="note">{note}</p>\n'
        f'<div class="row">{"".join(figures)}</div>'
    )


def _figure(picture: Image, name: str) -> str:
    text = escape(name)
    return (
        f'<figure><img alt="{text}" width="192" src="{data_uri(picture)}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
