"""``docs/frontier.svg``: what settings cost and how near they come, from the output that is kept.

``python -m docs.site.figure`` draws it after ``make bench-quality`` was run anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from docs.site.pages import ROOT

#: What ``make bench-quality`` printed: the first of these that is kept.
KEPT: Final = next(
    path
    for name in ("quality-cpu", "quality-dit-50")
    if (path := ROOT / "benchmarks" / "results" / f"{name}.txt").is_file()
)
FIGURE: Final = ROOT / "docs" / "frontier.svg"
#: What is drawn, and what it is called in the legend; ours, with thicker lines, come first.
LABELS: Final = {
    "tuned masks": "tuned masks",
    "tuned settings": "tuned settings",
    "defaults": "profiles of defaults.yaml",
    "cache-dit DBCache": "cache-dit's DBCache",
    "TaylorSeer": "diffusers' TaylorSeer",
    "SeaCache": "diffusers' SeaCache",
    "MagCache": "diffusers' MagCache",
    "FirstBlockCache": "diffusers' FirstBlockCache",
    "TeaCache": "TeaCache's rule",
}
_OURS: Final = 3
_HUES: Final = "acbdfhegi"
_STYLE: Final = """\
svg { font: 15px system-ui, sans-serif; --ink: #1f2328; --rule: #d8dee4; --paper: #fff;
  --a: #0969da; --b: #1a7f37; --c: #8250df; --d: #bc4c00; --e: #9a6700; --f: #cf222e;
  --g: #bf3989; --h: #57606a; --i: #0a7f8c }
@media (prefers-color-scheme: dark) { svg { --ink: #d1d7e0; --rule: #3d444d; --paper: #0d1117;
  --a: #4493f8; --b: #3fb950; --c: #ab7df8; --d: #f0883e; --e: #d29922;
  --f: #f85149; --g: #db61a2; --h: #9198a1; --i: #39c5cf } }
text { fill: var(--ink) } .rule { stroke: var(--rule) } .paper { fill: var(--paper) }
.a { --hue: var(--a) } .b { --hue: var(--b) } .c { --hue: var(--c) } .d { --hue: var(--d) }
.e { --hue: var(--e) } .f { --hue: var(--f) } .g { --hue: var(--g) } .h { --hue: var(--h) }
.i { --hue: var(--i) }
circle { fill: var(--hue) } path { stroke: var(--hue); fill: none }
.other { opacity: .45 }"""
_LEFT, _TOP, _RIGHT, _BOTTOM = 52, 16, 664, 330


def rows(kept: str) -> list[tuple[str, float, float, float]]:
    """Settings, per cent of the blocks, mean PSNR and that of the worst picture, in dB."""
    found = re.findall(r"^(\S.*?) +([\d.]+)% +[\d.]+ +([\d.]+) +([\d.]+) ", kept, re.MULTILINE)
    return [(name, float(blocks), float(mean), float(worst)) for name, blocks, mean, worst in found]


def draw(kept: str) -> str:
    """The figure.

    Args:
        kept: what ``python -m benchmarks.frontier`` printed.
    """
    return "\n".join(_parts(rows(kept))) + "\n"


def _kind(name: str) -> str:
    return name.partition(":")[0]


def _ahead(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that no cheaper one equals."""
    found: list[tuple[float, float]] = []
    for blocks, mean in sorted(points):
        if not found or mean > found[-1][1]:
            found.append((blocks, mean))
    return found


def _parts(found: Sequence[tuple[str, float, float, float]]) -> Iterator[str]:
    found = [row for row in found if _kind(row[0]) in LABELS]
    series = {
        kind: [(blocks, mean) for name, blocks, mean, _ in found if _kind(name) == kind]
        for kind in LABELS
    }
    series = {kind: points for kind, points in series.items() if points}
    left, right = (min(row[1] for row in found) // 5 * 5, -(-max(row[1] for row in found) // 5) * 5)
    low, high = (min(row[2] for row in found) // 5 * 5, -(-max(row[2] for row in found) // 5) * 5)

    def x_of(blocks: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * (blocks - left) / (right - left)

    def y_of(decibel: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * (decibel - low) / (high - low)

    said = "; ".join(
        f"{name}: {blocks} % of the blocks, {mean} dB" for name, blocks, mean, _ in found
    )
    tall = _BOTTOM + 90 + 24 * ((len(series) - 1) // 2)
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 {tall}" role="img">'
    yield f"<title>Cost against quality: {escape(said)}</title>\n<style>{_STYLE}</style>"
    yield f'<rect class="paper" width="680" height="{tall}" rx="6"/>'
    for decibel in range(int(low), int(high) + 1, 5):
        y = y_of(decibel)
        yield f'<line class="rule" x1="{_LEFT}" y1="{y:.0f}" x2="{_RIGHT}" y2="{y:.0f}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 5:.0f}" text-anchor="end">{decibel}</text>'
    for share in range(int(-(-left // 10)) * 10, int(right) + 1, 10):
        place = f'x="{x_of(share):.0f}" y="{_BOTTOM + 20}"'
        yield f'<text {place} text-anchor="middle">{share} %</text>'
    yield f'<text x="{(_LEFT + _RIGHT) / 2:.0f}" y="{_BOTTOM + 44}" text-anchor="middle">'
    yield "blocks computed; mean PSNR in dB of all settings, lines through the best of them</text>"
    for index, (kind, points) in reversed(list(enumerate(series.items()))):
        ahead = _ahead(points)
        line = " L".join(f"{x_of(blocks):.1f} {y_of(mean):.1f}" for blocks, mean in ahead)
        width = 3 if index < _OURS else 1.5
        yield f'<g class="{_HUES[index]}"><path d="M{line}" stroke-width="{width}"/>'
        for blocks, mean in points:
            kept, size = ("", width + 2) if (blocks, mean) in ahead else (' class="other"', 3)
            at = f'cx="{x_of(blocks):.1f}" cy="{y_of(mean):.1f}"'
            yield f'<circle{kept} {at} r="{size}"/>'
        x, y = _LEFT + 300 * (index % 2), _BOTTOM + 74 + 24 * (index // 2)
        label = f'<text x="{x + 12}" y="{y}">{escape(LABELS[kind])}</text>'
        yield f'<circle cx="{x}" cy="{y - 5}" r="5"/>{label}</g>'
    yield "</svg>"


def main() -> None:
    """Draw it into docs/."""
    FIGURE.write_text(draw(KEPT.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
