"""The demo: one set of pictures without the cache, and once with each profile."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cachedit_yaml.generating.demo.models import DIT, Model
from cachedit_yaml.generating.generate import Generated, generate
from cachedit_yaml.generating.progress import Start
from cachedit_yaml.generating.quality import Quality, compare

if TYPE_CHECKING:
    from PIL.Image import Image

    from cachedit_yaml.api import AdapterSource
    from cachedit_yaml.generating.sheet import Row
    from cachedit_yaml.generating.svg import Point
    from cachedit_yaml.generating.timeline import Panel, Shape
    from cachedit_yaml.runtime.stats import Stats

PROFILES: Final = ("quality", "balanced", "fast")
LABELS: Final = ("frog", "panda", "robot", "rocket", "penguin", "cake", "pizza", "strawberry")
STEPS: Final = 50
SEED: Final = 7


@dataclass(frozen=True)
class Outcome:
    """What one profile did.

    Attributes:
        name: the profile.
        generated: its pictures and the time they took.
        quality: how near they are to the uncached ones.
        speedup: the uncached time over this one.
        stats: what the cache did.
        shapes: the block lists, by transformer and path.
    """

    name: str
    generated: Generated
    quality: Quality
    speedup: float
    stats: Stats
    shapes: dict[tuple[str, str], Shape]

    @property
    def cached_steps(self) -> int:
        """Cached steps of the branch that has most of them."""
        return max((len(item.cached_steps) for item in self.stats.branches), default=0)


@dataclass(frozen=True)
class Demo:
    """Everything that the demo found out."""

    model: Model
    steps: int
    labels: tuple[str, ...]
    seed: int
    uncached: Generated
    outcomes: tuple[Outcome, ...]

    def report(self) -> dict[str, Any]:
        """The numbers as plain data."""
        return {
            "uncached_seconds": round(self.uncached.seconds, 3),
            "profiles": [
                {
                    "name": item.name,
                    "seconds": round(item.generated.seconds, 3),
                    "speedup": round(item.speedup, 3),
                    # JSON has no infinity: null where the pictures are equal.
                    "psnr": None if item.quality.psnr is None else round(item.quality.psnr, 3),
                    "ssim": round(item.quality.ssim, 5),
                    "computed_fraction": round(item.stats.computed_fraction, 4),
                    "cached_steps": item.cached_steps,
                }
                for item in self.outcomes
            ],
            "model": self.model.name,
            "steps": self.steps,
            "labels": list(self.labels),
            "seed": self.seed,
            "versions": _versions(),
        }


def labels_of(pipeline: Any) -> list[str]:
    """The labels of the demo that a model knows: all, where they are words."""
    known = getattr(pipeline, "labels", LABELS)
    return [label for label in LABELS if label in known]


def run_demo(
    pipeline: Any,
    adapter: AdapterSource,
    *,
    model: Model = DIT,
    steps: int = STEPS,
    labels: Sequence[str] = LABELS,
    seed: int = SEED,
    profiles: Sequence[str] = PROFILES,
    cache_config: Any = None,
    start: Start,
) -> Demo:
    """Generate the pictures, uncached and with each profile.

    Args:
        pipeline: the demo's pipeline.
        adapter: its adapter, which has the profiles.
        model: which one it is.
        steps: denoising steps.
        labels: the classes, one picture for each.
        seed: of the first picture; each later one has the next number.
        profiles: which ones to try.
        cache_config: settings that win over the profiles.
        start: shows the progress of a task.
    """
    import cachedit_yaml
    from cachedit_yaml.generating.timeline import shapes_of

    call = model.call(pipeline, labels)
    seeds = [seed + index for index in range(len(labels))]
    # The first forward of a process allocates and picks kernels, which is nobody's fault.
    generate(pipeline, {**call, "num_inference_steps": 2}, seeds)
    call["num_inference_steps"] = steps
    uncached = generate(pipeline, call, seeds, start("uncached", steps))
    outcomes = []
    for profile in profiles:
        options: dict[str, Any] = {"profile": profile, "cache_config": cache_config}
        with cachedit_yaml.enable(pipeline, adapter, **options) as handle:
            generated = generate(pipeline, call, seeds, start(profile, steps))
            stats = handle.stats()
            shapes = shapes_of(handle.plan, steps)
        outcomes.append(
            Outcome(
                name=profile,
                generated=generated,
                quality=compare(uncached.images, generated.images),
                speedup=uncached.seconds / generated.seconds,
                stats=stats,
                shapes=shapes,
            )
        )
    return Demo(model, steps, tuple(labels), seed, uncached, tuple(outcomes))


def write(demo: Demo, folder: Path) -> list[Path]:
    """Write ``compare.png``, ``timeline.png``, ``report.json`` and ``report.html``.

    Returns:
        The files.
    """
    pictures = {"compare.png": draw_compare(demo), "timeline.png": draw_steps(demo)}
    for name, picture in pictures.items():
        picture.save(folder / name, optimize=True)
    text = json.dumps(demo.report(), indent=2) + "\n"
    (folder / "report.json").write_text(text, encoding="utf-8")
    (folder / "report.html").write_text(page(demo), encoding="utf-8")
    return [folder / name for name in (*pictures, "report.json", "report.html")]


def draw_compare(demo: Demo) -> Image:
    """The pictures side by side: a row for each profile, a column for each label."""
    from cachedit_yaml.generating.sheet import draw_sheet

    what = "the same seeds without the cache and with each profile"
    title = f"{demo.model.title}, {demo.steps} steps: {what}"
    return draw_sheet(title, demo.labels, _rows(demo))


def _rows(demo: Demo) -> list[Row]:
    from cachedit_yaml.generating.sheet import Row

    rows = [
        Row(
            "uncached",
            [f"{demo.uncached.seconds:.1f} s", "every block, every step"],
            demo.uncached.images,
        )
    ]
    for item in demo.outcomes:
        lines = [
            f"{item.speedup:.1f}x speed-up, {item.generated.seconds:.1f} s",
            f"{item.stats.computed_fraction:.0%} of blocks computed",
            f"PSNR {item.quality.psnr_text}, SSIM {item.quality.ssim:.3f}",
        ]
        rows.append(Row(item.name, lines, item.generated.images))
    return rows


def draw_steps(demo: Demo) -> Image:
    """The timeline: a panel for each profile."""
    from cachedit_yaml.generating.timeline import draw_timeline

    return draw_timeline(f"What ran in {demo.steps} steps", _panels(demo))


def _panels(demo: Demo) -> list[Panel]:
    from cachedit_yaml.generating.timeline import Panel

    return [
        Panel(
            name=item.name,
            note=(
                f"{item.speedup:.1f}x speed-up    {item.stats.computed_fraction:.0%} of blocks "
                f"computed    PSNR {item.quality.psnr_text}"
            ),
            steps=demo.steps,
            branches=item.stats.branches,
            shapes=item.shapes,
        )
        for item in demo.outcomes
    ]


def page(demo: Demo) -> str:
    """The report as HTML: the profiles' cost and quality, pictures, timelines."""
    from cachedit_yaml.generating.page import Report, Table, render

    rows = [("uncached", f"{demo.uncached.seconds:.1f} s", "1.0x", "100.0%", "-", "-")]
    for item in demo.outcomes:
        time, speed = f"{item.generated.seconds:.1f} s", f"{item.speedup:.1f}x"
        near = item.quality.psnr_text, f"{item.quality.ssim:.4f}"
        rows.append((item.name, time, speed, f"{item.stats.computed_fraction:.1%}", *near))
    header = ("profile", "time", "speed-up", "blocks computed", "PSNR", "SSIM")
    report = Report(
        title=f"The demo's {demo.model.title}, {demo.steps} steps",
        lead=f"{len(demo.labels)} pictures from seed {demo.seed}, without the cache and with each "
        "profile of the demo's adapter.",
        tables=[Table("Profiles", header, rows)],
        points=[_point(demo, item) for item in demo.outcomes],
        columns=demo.labels,
        rows=_rows(demo),
        panels=_panels(demo),
        notes=[f"{item.name}: {note}" for item in demo.outcomes for note in item.stats.warnings],
    )
    return render(report)


def _point(demo: Demo, item: Outcome) -> Point:
    """A profile in the chart, with its worst picture beside the uncached one."""
    from cachedit_yaml.generating.svg import Point

    pairs = list(zip(demo.uncached.images, item.generated.images, strict=True))
    each = [compare([true], [made]).psnr for true, made in pairs]
    values = [math.inf if value is None else value for value in each]
    worst = min(range(len(values)), key=values.__getitem__)
    label = demo.labels[worst] if len(demo.labels) == len(pairs) else "the worst picture"
    return Point(
        name=item.name,
        kind="profile",
        blocks=item.stats.computed_fraction,
        psnr=math.inf if item.quality.psnr is None else item.quality.psnr,
        worst=min(values),
        best=max(values),
        lines=[f"{item.speedup:.1f}x speed-up, PSNR {item.quality.psnr_text}"],
        pictures=[
            (f"{label}, uncached", pairs[worst][0]),
            (f"{label}, {item.name}: the worst picture", pairs[worst][1]),
        ],
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("cachedit-yaml", "cache-dit", "diffusers", "torch"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    found["cpus"] = str(os.cpu_count())
    return found
