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
    parser.add_argument("--kept", action="store_true", help="run nothing: what is in --work")
    parser.add_argument("--only", default="", help="kinds that begin so")
    parser.add_argument("--work", type=Path, default=Path("out/frontier"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    given.results.mkdir(parents=True, exist_ok=True)  # before the hours that it takes
    torch.set_num_threads(1)
    model = MODELS[given.model]
    name = f"{'defaults' if given.defaults else 'quality'}-{given.model}-{given.steps}"
    pipeline = model.load()
    size = BATCH
    # What peers fit, they fit on what `tune` was given, with other seeds.
    fit = {**model.call(pipeline, SEEN[:4]), "num_inference_steps": given.steps}
    found: Iterable[tuple[str, str, peers.Switch]] = ()
    if given.defaults:
        found = defaults(model, pipeline)
    elif not given.kept:
        found = contenders(
            model, pipeline, given.steps, lambda: call_pipeline(pipeline, fit, (1, 2, 3, 4))
        )
    lines = [line for line in found if line[0].startswith(given.only) and not given.kept]
    parts = []
    for number in range(given.pictures // size):
        # Half of the classes that `tune` was not given, half of those that it was.
        classes = (showcase.LABELS, SEEN)[number % 2]
        first = number // 2 * size % len(classes)
        labels = classes[first : first + size]
        call = {**model.call(pipeline, labels), "num_inference_steps": given.steps}
        seeds = [SEED + size * number + place for place in range(size)]
        parts.append(Part(given.work / f"{name}-{number}.json", pipeline, call, seeds))
    for line in spread(lines):
        for part in parts:
            part.run(*line)
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

    def __init__(
        self, path: Path, pipeline: Any, call: Mapping[str, Any], seeds: Sequence[int]
    ) -> None:
        self._path = path
        self._pipeline = pipeline
        self._call = call
        self._seeds = seeds
        self._plain: tuple[list[Any], float] | None = None
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}
        if path.is_file():
            for entry in json.loads(path.read_text(encoding="utf-8")):
                self.rows[entry.pop("kind"), entry.pop("settings")] = entry

    def _make(self) -> tuple[list[Any], float]:
        begun = time.process_time()
        made = samples_of(call_pipeline(self._pipeline, self._call, self._seeds)[0])
        return made, time.process_time() - begun

    def run(self, kind: str, settings: str, switch: peers.Switch) -> None:
        """Make the pictures with one line, where that was not done before."""
        if (kind, settings) in self.rows:
            return
        self._plain = self._plain or self._make()
        reference, plain = self._plain
        with peers.counted(self._pipeline.transformer) as count, switch() as begin:
            begin()
            made, seconds = self._make()
        near = likeness(reference, made)
        self.rows[kind, settings] = {
            "blocks": count.fraction,
            "each": near.each,
            "ssim": near.ssim,
            "time": seconds / plain,
        }
        self._save()
        name = self._path.stem
        print(f"{name} {kind} {settings}: {count.fraction:.1%} {near.mean:.1f} dB", flush=True)

    def _save(self) -> None:
        entries = [
            {"kind": kind, "settings": settings, **row}
            for (kind, settings), row in self.rows.items()
        ]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(entries) + "\n", encoding="utf-8")


def spread(lines: Sequence[tuple[str, str, peers.Switch]]) -> list[tuple[str, str, peers.Switch]]:
    """Some of each kind first, those between them later, so that what is there says something."""
    seen: dict[str, int] = {}
    places = []
    for line in lines:
        place = seen[line[0]] = seen.get(line[0], -1) + 1
        places.append(int(f"{place % 4:02b}"[::-1], 2) * 100 + place)
    return [line for _, line in sorted(zip(places, lines, strict=True), key=lambda pair: pair[0])]


def joined(parts: Sequence[Part]) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows that all parts have, over all of their pictures, by kind and share of blocks."""
    found = {}
    kinds = list(dict.fromkeys(kind for kind, _ in parts[0].rows))
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
    by_cost = sorted(found, key=lambda key: (kinds.index(key[0]), found[key]["blocks"]))
    return {key: found[key] for key in by_cost}


if __name__ == "__main__":
    main()
