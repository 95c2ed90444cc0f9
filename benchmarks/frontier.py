"""``python -m benchmarks.frontier`` (``make bench-quality``): cost against quality, with peers.

On the demo's models, on pictures that no settings were chosen on: half of them show classes that
`tune` was given, with other seeds, half show others. Each line is a whole set of pictures. What
ran is kept in ``--work``, so that a run goes on where the last one stopped.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import peers
from benchmarks.contenders import contenders, defaults
from benchmarks.quality import SEED
from benchmarks.sheets import draw, table
from cachedit_yaml.generating.demo import showcase
from cachedit_yaml.generating.demo.models import MODELS
from cachedit_yaml.generating.generate import call_pipeline
from cachedit_yaml.tuning.outputs import likeness, samples_of

#: Classes that `tune` was given.
SEEN = ("cat", "fox", "ufo", "ghost", "heart", "cactus", "dog", "donut")
PICTURES = 32
#: Pictures that are made, and decided on, at once.
BATCH = 4
RESULTS = Path(__file__).with_name("results")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write tables and a chart."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontier", description=__doc__)
    parser.add_argument("--model", choices=MODELS, default="dit")
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--steps", type=int, default=showcase.STEPS)
    parser.add_argument(
        "--defaults", action="store_true", help="settings that defaults may have, in place of all"
    )
    parser.add_argument("--only", default="", help="kinds that begin so")
    parser.add_argument("--work", type=Path, default=Path("out/frontier"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model = MODELS[given.model]
    name = f"{'defaults' if given.defaults else 'quality'}-{given.model}-{given.steps}"
    pipeline = model.load()
    size = BATCH
    # What peers fit, they fit on what `tune` was given, with other seeds.
    fit = {**model.call(pipeline, SEEN[:4]), "num_inference_steps": given.steps}
    found = (
        defaults(model, pipeline)
        if given.defaults
        else contenders(
            model, pipeline, given.steps, lambda: call_pipeline(pipeline, fit, (1, 2, 3, 4))
        )
    )
    lines = [line for line in found if line[0].startswith(given.only)]
    parts = []
    for number in range(given.pictures // size):
        # Half of the classes that `tune` was not given, half of those that it was.
        classes = (showcase.LABELS, SEEN)[number % 2]
        first = number // 2 * size % len(classes)
        labels = classes[first : first + size]
        call = {**model.call(pipeline, labels), "num_inference_steps": given.steps}
        seeds = [SEED + size * number + place for place in range(size)]
        part = Part(given.work / f"{name}-{number}.json")
        parts.append(part)
        left = [line for line in lines if line[:2] not in part.rows]
        if left:
            part.run(pipeline, call, seeds, left)
    rows = joined(parts)
    command = f"$ python -m benchmarks.frontier --model {given.model} --steps {given.steps}"
    if given.defaults:
        command += " --defaults"
    if given.pictures != PICTURES:
        command += f" --pictures {given.pictures}"
    heading = (
        f"{command}    # torch {torch.__version__} on the CPU, one thread, "
        f"{datetime.date.today()}\n{model.title}: {size * len(parts)} pictures, "
        f"{given.steps} steps"
    )
    text = table(heading, rows)
    print(text)
    (given.results / f"{name}.txt").write_text(text, encoding="utf-8")
    picture = draw(f"{model.title}, {given.steps} steps: cost against quality", rows)
    picture.save(given.results / f"{name}.png", optimize=True)


class Part:
    """A batch of pictures under all settings, kept in a file.

    Attributes:
        rows: by kind and settings: share of blocks, PSNR of each picture, SSIM, and processor time
            over that of the uncached pictures.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}
        if path.is_file():
            for entry in json.loads(path.read_text(encoding="utf-8")):
                self.rows[entry.pop("kind"), entry.pop("settings")] = entry

    def run(
        self,
        pipeline: Any,
        call: Mapping[str, Any],
        seeds: Sequence[int],
        lines: Iterable[tuple[str, str, peers.Switch]],
    ) -> None:
        """Make the pictures, uncached and with each line."""

        def make() -> tuple[list[Any], float]:
            begun = time.process_time()
            made = samples_of(call_pipeline(pipeline, call, seeds)[0])
            return made, time.process_time() - begun

        reference, plain = make()
        print(f"{self._path.stem}: uncached {plain:.1f} s", flush=True)
        for kind, settings, switch in lines:
            with peers.counted(pipeline.transformer) as count, switch() as begin:
                begin()
                made, seconds = make()
            near = likeness(reference, made)
            self.rows[kind, settings] = {
                "blocks": count.fraction,
                "each": near.each,
                "ssim": near.ssim,
                "time": seconds / plain,
            }
            self._save()
            print(f"{kind} {settings}: {count.fraction:.1%} {near.mean:.1f} dB", flush=True)

    def _save(self) -> None:
        entries = [
            {"kind": kind, "settings": settings, **row}
            for (kind, settings), row in self.rows.items()
        ]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(entries) + "\n", encoding="utf-8")


def joined(parts: Sequence[Part]) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows that all parts have, over all of their pictures."""
    found = {}
    for key in parts[0].rows:
        rows = [part.rows[key] for part in parts if key in part.rows]
        if len(rows) < len(parts):
            continue
        each = [float(value) for row in rows for value in row["each"]]
        error = sum(10 ** (-value / 10) for value in each) / len(each)
        found[key] = {
            "blocks": sum(row["blocks"] for row in rows) / len(rows),
            "pooled": -10 * math.log10(error) if error else math.inf,
            "mean": sum(each) / len(each),
            "worst": min(each),
            "ssim": sum(row["ssim"] for row in rows) / len(rows),
            "time": sum(row["time"] for row in rows) / len(rows),
        }
    return found


if __name__ == "__main__":
    main()
