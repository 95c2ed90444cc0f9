"""``python -m benchmarks.tuned``: the adapters of tuned settings that `benchmarks.frontier` runs.

Runs `tune` on classes and seeds that nothing is measured on, for shares of blocks from 12 to 46 %,
and writes ``benchmarks/tuned/MODEL-STEPS-KIND.yaml``.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import torch

import cachedit_yaml
from benchmarks.contenders import TUNED
from benchmarks.frontier import SEEN
from cachedit_yaml.generating.demo import showcase
from cachedit_yaml.generating.demo.models import MODELS
from cachedit_yaml.generating.progress import progress

SHARES = (0.12, 0.14, 0.16, 0.18, 0.2, 0.25, 0.3, 0.35, 0.4, 0.46)


def main(arguments: Sequence[str] | None = None) -> None:
    """Tune, and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuned", description=__doc__)
    parser.add_argument("--model", choices=MODELS, default="dit")
    parser.add_argument("--steps", type=int, default=showcase.STEPS)
    parser.add_argument("--kind", choices=("settings", "masks"), default="settings")
    parser.add_argument("--calls", type=int, default=8, help="a label and a seed each")
    parser.add_argument("--budget", type=float, default=20.0)
    parser.add_argument("--work", type=Path, default=Path("out/tuned"))
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model = MODELS[given.model]
    pipeline = model.load()
    labels = itertools.islice(itertools.cycle(SEEN), given.calls)
    calls = [
        {**model.call(pipeline, [label]), "num_inference_steps": given.steps} for label in labels
    ]
    name = f"{given.model}-{given.steps}-{given.kind}"
    path = TUNED / f"{name}.yaml"
    TUNED.mkdir(exist_ok=True)
    with progress(quiet=False) as start:
        tuning = cachedit_yaml.tune(
            pipeline,
            calls,
            [f"b{round(100 * share):02}:blocks={share}" for share in SHARES],
            masks=given.kind == "masks",
            budget=given.budget,
            model=f"the demo's {model.title}",
            folder=given.work / name,
            resume=(given.work / name / "tuning.json").is_file(),
            start=start,
        )
    print("\n".join(tuning.write(path, force=True)))
    print("\n".join(f"{name}: {item}" for name, item in tuning.profiles.items()))
    print("\n".join(tuning.notes))


if __name__ == "__main__":
    main()
