"""``python -m benchmarks.frontier`` (``make bench-quality``): cost against quality, with peers.

On the demo's DiT, on pictures that no settings were chosen on: half of them show classes that
`tune` was given, with other seeds, half show others. Each line is a whole set of pictures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

import cachedit_yaml
from benchmarks import peers
from benchmarks.quality import SEED
from cachedit_yaml.generating.demo import showcase
from cachedit_yaml.generating.generate import call_pipeline
from cachedit_yaml.tuning.outputs import likeness, samples_of

#: Classes that `tune` was given.
SEEN = ("cat", "fox", "ufo", "ghost", "heart", "cactus", "dog", "donut")
#: What profiles were before anything was measured: those of the defaults alone.
PLAIN = {
    "schema": 1,
    "pipelines": ["DiTPipeline"],
    "transformers": {"transformer": {"blocks": {"transformer_blocks": "Pattern_3"}}},
}


def contenders(
    transformer: Any, ratios: list[float]
) -> Iterator[tuple[str, Callable[[Any], AbstractContextManager[Any]]]]:
    """A name and what switches it on, for each line."""
    sources: Mapping[str, Any] = {
        "defaults": PLAIN,
        "dit.yaml": "dit",
        "dit-demo.yaml": showcase.ADAPTER,
    }
    for source, adapter in sources.items():
        for name in showcase.PROFILES:
            yield (
                f"{source}: {name}",
                lambda pipe, adapter=adapter, name=name: cachedit_yaml.enable(
                    pipe, adapter, profile=name
                ),
            )
    for threshold in (0.05, 0.08, 0.1, 0.13, 0.17, 0.22):
        apply = peers.first_block_cache(transformer, threshold)
        yield (
            f"FirstBlockCache {threshold}",
            lambda pipe, apply=apply: peers.hooked(transformer, apply),
        )
    for threshold, skip in ((0.02, 2), (0.04, 3), (0.06, 3), (0.12, 4), (0.2, 5), (0.3, 7)):
        apply = peers.mag_cache(transformer, ratios, threshold, skip, 0.06)
        yield (
            f"MagCache {threshold}, at most {skip}",
            lambda pipe, apply=apply: peers.hooked(transformer, apply),
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontier", description=__doc__)
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--steps", type=int, default=showcase.STEPS)
    parser.add_argument("--only", default="", help="lines that begin so")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    pipeline = showcase.load_model()
    size = len(SEEN)
    batches = []
    for start in range(0, given.pictures, size):
        labels = (showcase.LABELS, SEEN)[start // size % 2]
        call = {
            "class_labels": [pipeline.labels[label] for label in labels],
            "guidance_scale": showcase.GUIDANCE,
            "num_inference_steps": given.steps,
            "output_type": "pil",
        }
        batches.append((call, [SEED + start + place for place in range(size)]))

    def run(begin: Callable[[], None] = lambda: None) -> tuple[list[Any], float]:
        made, seconds = [], 0.0
        for call, seeds in batches:
            begin()
            begun = time.process_time()
            made += samples_of(call_pipeline(pipeline, call, seeds)[0])
            seconds += time.process_time() - begun
        return made, seconds

    call, seeds = batches[0]
    ratios = peers.mag_ratios(
        pipeline.transformer, given.steps, lambda: call_pipeline(pipeline, call, [1] * len(seeds))
    )
    reference, plain = run()
    print(f"{len(reference)} pictures, {given.steps} steps; uncached {plain:.1f} s")
    print(f"{'':34}{'blocks':>8}{'pooled':>8}{'mean':>8}{'worst':>8}{'SSIM':>8}{'time':>8}")
    for name, switch in contenders(pipeline.transformer, ratios):
        if not name.startswith(given.only):
            continue
        with peers.counted(pipeline.transformer) as count, switch(pipeline) as on:
            begin = on if callable(on) else lambda: None
            made, seconds = run(begin)
        near = likeness(reference, made)
        print(
            f"{name:34}{count.fraction:8.1%}{near.pooled:8.1f}{near.mean:8.1f}{near.worst:8.1f}"
            f"{near.ssim or 0:8.4f}{seconds / plain:8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
