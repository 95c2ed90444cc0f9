"""``python -m benchmarks.batch``: what a picture gets that shares its batch with others.

The demo's model makes 1 to 16 pictures of different labels in one batch. For each way in which a
batch may decide, the blocks that were computed (each row for itself) and the PSNR to the uncached
pictures; and how many pictures were served in other steps, or came out lower, than alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

import cachedit_yaml
from cachedit_yaml.generating.demo import showcase
from cachedit_yaml.generating.demo.models import MODELS
from cachedit_yaml.runtime.handle import Handle

WAYS: Final = ("per_sample", "worst", "mean")
SIZES: Final = (1, 2, 4, 8, 16)
GUIDANCE: Final = 3.0
#: None that settings were chosen on, and none of the other benchmarks.
SEED: Final = 70_000


@dataclass
class Made:
    """Pictures that were made together or alone.

    Attributes:
        psnr: of each picture, in dB.
        steps: those in which each was served from the cache.
        blocks: the share of the blocks that was computed.
    """

    psnr: list[float]
    steps: list[tuple[int, ...]]
    blocks: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--steps", type=int, default=showcase.STEPS)
    parser.add_argument("--adapter", default="dit")
    parser.add_argument("--profile", default="fast")
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    pipeline = MODELS["dit"].load()
    pipeline.set_progress_bar_config(disable=True)
    size = max(given.sizes)
    labels = [*pipeline.labels.values()][:size]
    labels = [labels[index % len(labels)] for index in range(size)]
    plain = [pictures(pipeline, labels, given, [index])[0] for index in range(size)]
    alone = run(pipeline, labels, given, [[index] for index in range(size)], plain, "per_sample")
    print(
        f"adapter {given.adapter}, profile {given.profile}, {given.steps} steps, guidance "
        f"{GUIDANCE} in one batch, {size} pictures"
    )
    print(
        f"{'':28}{'blocks':>9}{'PSNR mean':>11}{'worst':>8}{'other steps':>13}{'below alone':>13}"
    )
    print(_line("alone", alone, alone), flush=True)
    for count in given.sizes:
        batches = [[*range(start, start + count)] for start in range(0, size, count)]
        for way in WAYS if count > 1 else ():
            made = run(pipeline, labels, given, batches, plain, way)
            print(_line(f"batches of {count}, {way}", made, alone), flush=True)


def _line(name: str, made: list[Made], alone: list[Made]) -> str:
    psnr = [value for item in made for value in item.psnr]
    steps = [value for item in made for value in item.steps]
    blocks = sum(item.blocks * len(item.psnr) for item in made) / len(psnr)
    others = sum(one != own.steps[0] for one, own in zip(steps, alone, strict=True))
    lower = sum(one < own.psnr[0] - 0.01 for one, own in zip(psnr, alone, strict=True))
    count = len(psnr)
    return (
        f"{name:28}{blocks:>8.1%}{np.mean(psnr):>10.1f}{min(psnr):>9.1f}"
        f"{f'{others} of {count}':>13}{f'{lower} of {count}':>13}"
    )


def run(
    pipeline: Any,
    labels: list[int],
    given: Any,
    batches: list[list[int]],
    plain: list[Any],
    way: str,
) -> list[Made]:
    """Make pictures in batches, cached."""
    with cachedit_yaml.enable(
        pipeline, given.adapter, profile=given.profile, cache_config={"batch": way}
    ) as handle:
        if way == "per_sample" and len(batches[0]) > 1:
            pictures(pipeline, labels, given, batches[0])  # proves that rows can be run apart
        return [_made(pipeline, labels, given, batch, plain, handle) for batch in batches]


def _made(
    pipeline: Any,
    labels: list[int],
    given: Any,
    batch: list[int],
    plain: list[Any],
    handle: Handle,
) -> Made:
    made = pictures(pipeline, labels, given, batch)
    (row,) = handle.stats().branches
    rows = row.samples or (row,) * len(batch)
    psnr = [_psnr(plain[index], one) for index, one in zip(batch, made, strict=True)]
    return Made(psnr, [item.cached_steps for item in rows], row.computed_fraction)


def pictures(pipeline: Any, labels: list[int], given: Any, batch: list[int]) -> np.ndarray:
    """Pictures ``[b x h x w x 3]`` from 0 to 1, each from a seed of its own."""
    made = pipeline(
        class_labels=[labels[index] for index in batch],
        guidance_scale=GUIDANCE,
        num_inference_steps=given.steps,
        output_type="np",
        generator=[torch.Generator().manual_seed(given.seed + index) for index in batch],
    )
    return np.asarray(made.images)


def _psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = float(np.square(one.astype(np.float64) - other.astype(np.float64)).mean())
    return -10 * float(np.log10(max(error, 1e-12)))


if __name__ == "__main__":
    main()
