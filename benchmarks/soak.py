"""``python -m benchmarks.soak``: thousands of requests, and what is left of them.

Random requests at once, each compared with itself alone; errors raised from any function that a
generation calls, and the generation after each; generations and switching on and off, with
the tensors, objects and resident memory that remain. The tests do the same in short.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from tests.runtime import random_faults, requests_at_once
from tests.runtime.models import ALWAYS, SmallPipeline, small, start


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and print what remains. Returns 1 where anything grows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--faults", type=int, default=1_000)
    parser.add_argument("--generations", type=int, default=5_000)
    parser.add_argument("--switches", type=int, default=10_000)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    kinds = len(requests_at_once.SETTINGS)
    served = sum(
        requests_at_once.stress(given.requests // kinds, seed) for seed in range(100, 100 + kinds)
    )
    print(f"{given.requests} requests at once, each as alone; {served} steps from the cache")
    pipe = SmallPipeline(small())
    places: set[str] = set()
    for seed, settings in enumerate(requests_at_once.SETTINGS):
        with start(pipe, Fn_compute_blocks=1, **settings) as handle:
            count = given.faults // kinds + (seed < given.faults % kinds)
            places |= {*random_faults.stress(handle, lambda: pipe(6), count, seed)}
    print(f"{given.faults} errors raised at {len(places)} places, the next generation as ever")

    def generate() -> None:
        pipe(4)

    def switch() -> None:
        start(pipe, **ALWAYS).disable()

    with start(pipe, **ALWAYS):
        grew = _grown("generations", generate, given.generations)
    grew |= _grown("switching on and off", switch, given.switches)
    return int(grew)


def _grown(name: str, action: Callable[[], None], count: int) -> bool:
    """Do something many times, and print what there is more of after than before."""
    for _ in range(40):  # as many generations are remembered, and more
        action()
    before = _held()
    for _ in range(count):
        action()
    tensors, objects, kilobytes = (now - then for now, then in zip(_held(), before, strict=True))
    print(f"{count} x {name}: {tensors:+d} tensors, {objects:+d} objects, {kilobytes:+d} KiB")
    return tensors > 0 or objects > count // 100


def _held() -> tuple[int, int, int]:
    gc.collect()
    objects = gc.get_objects()
    tensors = sum(issubclass(type(item), torch.Tensor) for item in objects)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return tensors, len(objects), int(resident.split()[1])


if __name__ == "__main__":
    raise SystemExit(main())
