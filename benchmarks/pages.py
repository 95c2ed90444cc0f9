"""``python -m benchmarks.pages``: tables of README.md and docs/tune.md, from results/.

A table stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results")
PAGES = (ROOT / "README.md", ROOT / "docs" / "tune.md")
TITLES = {"dit": "DiT", "flux": "FLUX in small"}
_ROW = re.compile(r"^(\S.*?): (.+?) +([\d.]+%) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$")


def kept(name: str) -> str:
    """What a run printed, such as ``quality-dit-50``."""
    return (RESULTS / f"{name}.txt").read_text(encoding="utf-8")


def rows(text: str) -> list[tuple[str, ...]]:
    """Kind, settings, share of blocks, pooled, mean and worst PSNR, SSIM, time."""
    return [match.groups() for line in text.splitlines() if (match := _ROW.match(line))]


def needed(text: str, measure: str) -> dict[str, list[str]]:
    """By kind, the share of blocks for each quality, and under "" the qualities."""
    (_, part) = text.split(f"blocks for a {measure} PSNR of")
    found = {}
    for number, line in enumerate(part.split("\n\n")[0].rstrip("\n").splitlines()):
        cells = re.findall(r"<= [\d.]+%|[\d.]+%|\d+ dB|-(?= |$)", line[0 if not number else 34 :])
        found["" if not number else line[:34].strip()] = cells
    return found


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    told = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in told).replace("|  |", "| |")


def quality(name: str) -> str:
    """The blocks that each kind of cache takes for a quality."""
    head, *lines = needed(kept(name), "mean").items()
    return table(["", *head[1]], [[kind, *map(_percent, cells)] for kind, cells in lines])


def profiles(name: str) -> str:
    """The rows of our own profiles."""
    model = name.split("-")[1]
    own = ("defaults", model, f"{model}-demo")
    lines = [
        [f"{kind}: {settings}", _percent(blocks), pooled, mean, worst, f"{100 * float(time):.0f} %"]
        for kind, settings, blocks, pooled, mean, worst, _, time in rows(kept(name))
        if kind in own
    ]
    return table(["", "blocks", "pooled", "mean", "worst", "processor time"], lines)


def short() -> str:
    """For the README: both models at 50 steps, three qualities."""
    found = {model: needed(kept(f"quality-{model}-50"), "mean") for model in TITLES}
    wanted = ("36 dB", "40 dB", "44 dB")
    header = ["", *(f"{TITLES[model]}, {text}" for model in TITLES for text in wanted)]
    kinds = [kind for kind in found["dit"] if kind in found["flux"] and kind]
    lines = []
    for kind in kinds:
        cells = [
            found[model][kind][found[model][""].index(text)] for model in TITLES for text in wanted
        ]
        lines.append([kind, *map(_percent, cells)])
    return table(header, lines)


def _percent(text: str) -> str:
    return text.replace("%", " %")


def render(page: str) -> str:
    """A page with its tables made anew."""
    makers: Mapping[str, Callable[[str], str]] = {"quality": quality, "profiles": profiles}

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        kind, _, rest = name.partition("-")
        made = short() if name == "short" else makers[kind](f"quality-{rest}")
        return f"<!-- {name} -->\n{made}\n<!-- /{name} -->"

    return re.sub(
        r"<!-- (short|(?:quality|profiles)-[\w-]+) -->\n.*?<!-- /\1 -->", fill, page, flags=re.S
    )


def main() -> None:
    """Write the pages."""
    for path in PAGES:
        path.write_text(render(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
