"""``python -m benchmarks.variants``: what F = 2, B = 1 and TaylorSeer's orders bring on the demo.

Of each kind of settings the one that the trace likes best at a share of the blocks is run, all on
the same pictures, whose seeds the trace has not seen. The folder keeps the trace and the runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

import cachedit_yaml
from cachedit_yaml.generating.demo import showcase
from cachedit_yaml.generating.demo.models import MODELS
from cachedit_yaml.tuning import masks, search, trace
from cachedit_yaml.tuning.candidates import Candidate
from cachedit_yaml.tuning.session import Session
from cachedit_yaml.tuning.surrogate import Surrogate

LABELS = ("cat", "fox", "ufo", "ghost")
SHARES = (0.25, 0.33)
MASKS = 0.25


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.variants", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("out/variants"))
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    trace._COST = 9.0  # all F and B, whatever they cost
    model = MODELS["dit"]
    pipeline = model.load()
    steps = {"num_inference_steps": showcase.STEPS}
    session = Session(
        pipeline,
        cachedit_yaml.load_adapter(model.adapter),
        [{**model.call(pipeline, [label]), **steps} for label in LABELS],
        seed=0,
        model="the demo's DiT",
        start=None,
        budget=99,
        folder=given.folder,
        resume=(given.folder / "tuning.json").exists(),
    )
    surrogate = Surrogate(session.trace())
    session.require_reference()
    print(session.what)
    for item in best(surrogate):
        found = session.measure(item.settings, error=item.error, key=item.key)
        near = found.likeness
        print(
            f"{found.blocks:.1%}  expected error {item.error:.2f}  pooled {near.pooled:.1f}  "
            f"mean {near.mean:.1f}  worst {near.worst:.1f}  {item.key}",
            flush=True,
        )


def best(surrogate: Surrogate) -> Iterator[Candidate]:
    """The best of each kind for each share of the blocks."""
    kinds: dict[tuple[object, ...], list[Candidate]] = {}
    for item in search.settings(surrogate):
        kinds.setdefault(item.family, []).append(item)
    for share in SHARES:
        for kind in ((1, 1, 0, False), (1, 2, 0, False), (1, 1, 1, False), (2, 1, 0, False)):
            fitting = [item for item in kinds.get(kind, ()) if item.blocks <= share + 0.005]
            if fitting:
                yield min(fitting, key=lambda item: item.error)
    for order in (1, 2):
        yield from masks.masks(surrogate, [MASKS], order)


if __name__ == "__main__":
    main()
