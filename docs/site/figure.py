"""``docs/frontier.svg``: what settings cost and how near they come, from the output that is kept.

``python -m docs.site.figure`` draws it after ``make bench-quality`` was run anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from typing import Final

from docs.site.pages import ROOT

KEPT: Final = ROOT / "benchmarks" / "results" / "quality-cpu.txt"
FIGURE: Final = ROOT / "docs" / "frontier.svg"
#: Beginning of a row's name, class in the style, what the legend says.
_SERIES: Final = (
    ("dit-demo.yaml", "a", "profiles that tune found"),
    ("dit.yaml", "b", "profiles of dit.yaml"),
    ("defaults", "c", "defaults.yaml, untuned"),
    ("FirstBlockCache", "d", "diffusers' FirstBlockCache"),
    ("MagCache", "e", "diffusers' MagCache"),
)
_STYLE: Final = """\
svg { font: 15px system-ui, sans-serif; --ink: #1f2328; --rule: #d8dee4; --paper: #fff;
  --a: #0969da; --b: #1a7f37; --c: #8250df; --d: #bc4c00; --e: #9a6700 }
@media (prefers-color-scheme: dark) { svg { --ink: #d1d7e0; --rule: #3d444d; --paper: #0d1117;
  --a: #4493f8; --b: #3fb950; --c: #ab7df8; --d: #f0883e; --e: #d29922 } }
text { fill: var(--ink) } .rule { stroke: var(--rule) } .paper { fill: var(--paper) }
.a { --hue: var(--a) } .b { --hue: var(--b) } .c { --hue: var(--c) } .d { --hue: var(--d) }
.e { --hue: var(--e) } circle { fill: var(--hue) } path { stroke: var(--hue); fill: none }
.worst { opacity: .4 }"""
_LEFT, _TOP, _RIGHT, _BOTTOM = 52, 16, 664, 330


def _x(blocks: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * (blocks - 15) / 40


def _y(decibel: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * (decibel - 20) / 40


def draw(kept: str) -> str:
    """The figure.

    Args:
        kept: what ``python -m benchmarks.frontier`` printed.
    """
    return "\n".join(_parts(kept)) + "\n"


def _parts(kept: str) -> Iterator[str]:
    found = re.findall(r"^(\S.*?) +([\d.]+)% +[\d.]+ +([\d.]+) +([\d.]+) ", kept, re.MULTILINE)
    rows = [(name, float(blocks), float(mean), float(worst)) for name, blocks, mean, worst in found]
    said = "; ".join(
        f"{name}: {blocks} % of the blocks, {mean} dB" for name, blocks, mean, _ in rows
    )
    yield '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 468" role="img">'
    yield f"<title>Cost against quality: {escape(said)}</title>\n<style>{_STYLE}</style>"
    yield '<rect class="paper" width="680" height="468" rx="6"/>'
    for decibel in range(20, 61, 10):
        y = _y(decibel)
        yield f'<line class="rule" x1="{_LEFT}" y1="{y:.0f}" x2="{_RIGHT}" y2="{y:.0f}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 5:.0f}" text-anchor="end">{decibel}</text>'
    for share in range(20, 56, 10):
        yield f'<text x="{_x(share):.0f}" y="{_BOTTOM + 20}" text-anchor="middle">{share} %</text>'
    middle = (_LEFT + _RIGHT) / 2
    yield f'<text x="{middle:.0f}" y="{_BOTTOM + 44}" text-anchor="middle">'
    yield "blocks computed; dots: mean PSNR in dB, lines down: the worst picture</text>"
    for index, (start, kind, label) in enumerate(_SERIES):
        points = sorted(row[1:] for row in rows if row[0].startswith(start))
        line = " L".join(f"{_x(blocks):.1f} {_y(mean):.1f}" for blocks, mean, _ in points)
        yield f'<g class="{kind}"><path d="M{line}" stroke-width="1.5"/>'
        for blocks, mean, worst in points:
            x, y = _x(blocks), _y(mean)
            yield f'<path class="worst" d="M{x:.1f} {y:.1f} V{_y(worst):.1f}" stroke-width="3"/>'
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
        x, y = _LEFT + 300 * (index % 2), _BOTTOM + 74 + 24 * (index // 2)
        yield f'<circle cx="{x}" cy="{y - 5}" r="5"/><text x="{x + 12}" y="{y}">{label}</text></g>'
    yield "</svg>"


def main() -> None:
    """Draw it into docs/."""
    FIGURE.write_text(draw(KEPT.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
