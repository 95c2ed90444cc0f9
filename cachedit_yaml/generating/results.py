"""What ``cachedit-yaml run`` made: save it, and say what it cost."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cachedit_yaml.generating.generate import Generated

if TYPE_CHECKING:
    import torch

    from cachedit_yaml.compiler.plan import Plan
    from cachedit_yaml.generating.likeness import Likeness
    from cachedit_yaml.generating.sheet import Row
    from cachedit_yaml.generating.timeline import Panel
    from cachedit_yaml.runtime.stats import Stats

#: Suffixes that say that --out is a file.
PICTURES: Final = (".png", ".jpg", ".jpeg", ".webp", ".gif")


@dataclass
class Result:
    """One generation, and the uncached one beside it where there is one.

    Attributes:
        names: what each picture shows.
        seeds: one for each picture.
        cached: the pictures and the time.
        uncached: the same without the cache.
        stats: what the cache did.
        plan: what the adapter was compiled into.
        profile: the profile that was chosen.
        files: what was saved.
        near: how near it came to the uncached one.
    """

    names: Sequence[str]
    seeds: Sequence[int]
    cached: Generated
    uncached: Generated | None
    stats: Stats
    plan: Plan
    profile: str | None
    files: list[Path] = field(default_factory=list)
    near: Likeness | None = None

    def __post_init__(self) -> None:
        if self.uncached is not None:
            from cachedit_yaml.generating.likeness import likeness

            self.near = likeness(self.uncached.samples or (), self.cached.samples or ())

    @property
    def speedup(self) -> float | None:
        """The uncached time over the cached one."""
        return None if self.uncached is None else self.uncached.seconds / self.cached.seconds

    def save(self, out: Path, timeline: Path | None) -> None:
        """Save the pictures, the comparison with its report, and the timeline.

        Args:
            out: a folder, or a file for a single picture; several get numbers.
            timeline: a file for the timeline.
        """
        if self.cached.numbers is not None:
            self._save_numbers(out, self.cached.numbers)
        paths = self._paths(out) if self.cached.frames else []
        for path, frames in zip(paths, self.cached.frames, strict=True):
            if len(frames) > 1:
                path = path.with_suffix(".gif")
                frames[0].save(path, save_all=True, append_images=frames[1:], duration=62, loop=0)
            else:
                frames[0].save(path)
            self.files.append(path)
        if self.uncached is not None:
            single = is_file(out)
            if self.cached.frames:
                path = out.with_name(f"{out.stem}-compare.png") if single else out / "compare.png"
                self._draw_compare(self.uncached).save(path)
                self.files.append(path)
            path = out.with_name(f"{out.stem}-report.html") if single else out / "report.html"
            path.write_text(self._page(self.uncached), encoding="utf-8")
            self.files.append(path)
        if timeline is not None:
            self._draw_timeline().save(timeline)
            self.files.append(timeline)

    def _save_numbers(self, out: Path, numbers: torch.Tensor) -> None:
        from safetensors.torch import save_file

        path = out.with_suffix(".safetensors") if is_file(out) else out / "output.safetensors"
        save_file({"output": numbers.contiguous().cpu()}, path)
        self.files.append(path)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found: dict[str, Any] = {
            "adapter": self.stats.adapter,
            "profile": self.profile,
            "execution": self.stats.execution,
            "seconds": round(self.cached.seconds, 3),
            "computed_fraction": round(self.stats.computed_fraction, 4),
            "files": [str(path) for path in self.files],
            "stats": self.stats.as_dict(),
        }
        if self.uncached is not None and self.near is not None and self.speedup is not None:
            psnr = self.near.pooled
            others = {name.lower(): float(text) for name, text in self.near.others().items()}
            found["compare"] = {
                "uncached_seconds": round(self.uncached.seconds, 3),
                "speedup": round(self.speedup, 3),
                # JSON has no infinity: null where they are equal.
                "psnr": round(psnr, 3) if math.isfinite(psnr) else None,
                **others,
                "measured": self._what,
            }
        return found

    def __str__(self) -> str:
        lines = [str(self.stats), f"time: {self.cached.seconds:.2f} s"]
        if self.uncached is not None and self.near is not None:
            numbers = (f"{name} {text}" for name, text in self._numbers.items())
            lines[-1] += (
                f", uncached {self.uncached.seconds:.2f} s: {self.speedup:.2f}x speed-up\n"
                f"{', '.join(numbers)}\n{self._what}"
            )
        return "\n".join([*lines, *(f"wrote {path}" for path in self.files)])

    def _paths(self, out: Path) -> list[Path]:
        count = len(self.cached.frames)
        if is_file(out):
            if count == 1:
                return [out]
            return [out.with_name(f"{out.stem}-{index + 1}{out.suffix}") for index in range(count)]
        names = list(self.names) if len(self.names) == count else [self.names[0]] * count
        seeds = list(self.seeds) if len(self.seeds) == count else list(range(1, count + 1))
        return [out / f"{_slug(name)}-{seed}.png" for name, seed in zip(names, seeds, strict=True)]

    def _draw_compare(self, uncached: Generated) -> Any:
        from cachedit_yaml.generating.sheet import draw_sheet

        rows = self._rows(uncached)
        side = max(192, min(rows[0].pictures[0].width, 384))
        return draw_sheet(self._title(), self._columns(), rows, side=side)

    def _page(self, uncached: Generated) -> str:
        """The report as HTML."""
        from cachedit_yaml.generating.page import Report, Table, render

        numbers = self._numbers
        share = f"{self.stats.computed_fraction:.1%}"
        own = f"{self.cached.seconds:.2f} s", f"{self.speedup:.2f}x", share
        header = ("profile", "time", "speed-up", "blocks computed", *numbers)
        empty = ("-" for _ in numbers)
        rows = [
            ("uncached", f"{uncached.seconds:.2f} s", "1.00x", "100.0%", *empty),
            (self.profile or "cached", *own, *numbers.values()),
        ]
        report = Report(
            title=self._title(),
            lead=f"The adapter {self.stats.adapter}, beside the same call without the cache. "
            f"{self._what}.",
            tables=[Table("Numbers", header, rows)],
            columns=self._columns(),
            rows=self._rows(uncached) if self.cached.frames else (),
            panels=[self._panel()],
            notes=self.stats.warnings,
        )
        return render(report)

    @property
    def _numbers(self) -> dict[str, str]:
        """What was measured of the likeness, by its name."""
        assert self.near is not None
        psnr = self.near.pooled
        return {"PSNR": f"{psnr:.1f} dB" if math.isfinite(psnr) else "identical"} | (
            self.near.others()
        )

    @property
    def _what(self) -> str:
        """What is compared, and how."""
        from cachedit_yaml.generating.likeness import measured_as

        assert self.cached.samples is not None
        return measured_as(self.cached.samples)

    def _columns(self) -> Sequence[str]:
        count = len(self.cached.frames)
        return list(self.names) if len(self.names) == count else [""] * count

    def _rows(self, uncached: Generated) -> list[Row]:
        from cachedit_yaml.generating.sheet import Row

        assert self.speedup is not None
        first, second = (
            [frames[len(frames) // 2] for frames in made.frames] for made in (uncached, self.cached)
        )
        lines = [
            f"{self.speedup:.1f}x speed-up, {self.cached.seconds:.1f} s",
            f"{self.stats.computed_fraction:.0%} of blocks computed",
            ", ".join(f"{name} {text}" for name, text in self._numbers.items()),
        ]
        return [
            Row("uncached", [f"{uncached.seconds:.1f} s"], first),
            Row(self.profile or "cached", lines, second),
        ]

    def _draw_timeline(self) -> Any:
        from cachedit_yaml.generating.timeline import draw_timeline

        return draw_timeline(self._title(), [self._panel()])

    def _panel(self) -> Panel:
        from cachedit_yaml.generating.timeline import Panel, shapes_of

        ran = [step + 1 for item in self.stats.branches for step in item.executed_steps]
        return Panel(
            name=self.profile or "cached",
            note=f"{self.cached.seconds:.1f} s    {self.stats.computed_fraction:.0%} of blocks "
            "computed",
            steps=max(ran, default=1),
            branches=self.stats.branches,
            shapes=shapes_of(self.plan, self.stats.num_steps),
        )

    def _title(self) -> str:
        steps = f", {self.stats.num_steps} steps" if self.stats.num_steps else ""
        return f"{type(self.plan.pipeline).__name__}{steps}"


def is_file(out: Path) -> bool:
    """Whether a place to save to is a file."""
    return out.suffix.lower() in PICTURES and not os.path.isdir(out)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()[:48] or "picture"
