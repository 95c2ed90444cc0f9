"""``python -m benchmarks``: measure, and print one table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks import forwards, launches, models, startup, switching
from benchmarks.architectures import ARCHITECTURES
from benchmarks.measure import ClockName
from benchmarks.table import Row, as_text, headline, verdict, write_json

PARTS = ("launches", "no-hit", "hit", "switch", "startup", "models")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure what caching costs and gives: uncached, cache-dit, cachedit-yaml.",
    )
    add = result.add_argument
    add("--quick", action="store_true", help="fewer repetitions, more noise")
    add("--json", type=Path, metavar="FILE", help="write all numbers to a file")
    add("--device", default="cpu", choices=("cpu", "cuda"), help="where the transformers run")
    add("--clock", choices=("cpu", "wall"), help="time that counts; default: cpu on the cpu")
    add("--only", nargs="+", choices=PARTS, default=PARTS, help="some parts only")
    add("--tiny", action="store_true", help="shrink the full-size models, to try their code")
    add("--models", nargs="+", choices=list(ARCHITECTURES), default=models.DEFAULT)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print. Returns the exit code: 0, or 3 where the device is not there."""
    given = parser().parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("skipped: --device cuda, and there is no CUDA device", file=sys.stderr)
        return 3
    torch.set_num_threads(1)
    clock: ClockName = given.clock or ("cpu" if given.device == "cpu" else "wall")
    rows: list[Row] = []
    for part in _parts(given, clock):
        for row in part():
            rows.append(row)
            result = f"{row.ratio} ({row.met})" if row.met else f"{row.ratio} {row.quartiles}"
            print(f"{row.name}: {result}", file=sys.stderr, flush=True)
    print(f"\n{headline(clock)}\n\n{as_text(rows)}\n\n{verdict(rows)}")
    if given.json is not None:
        write_json(given.json, rows, {"clock": clock, "device": given.device})
    return 0


def _parts(given: argparse.Namespace, clock: ClockName) -> list[Callable[[], list[Row]]]:
    """What to measure, in order: the small size first, which is soon done."""
    quick, device = given.quick, given.device
    small = forwards.Setup(forwards.SMALL, 6 if quick else 40, clock, device)
    large = forwards.Setup(forwards.LARGE, 1 if quick else 8, clock, device)
    on_cpu = device == "cpu"
    parts: dict[str, list[Callable[[], list[Row]]]] = {
        "launches": [launches.rows],
        "no-hit": [
            lambda: [forwards.no_hit(small, against_cache_dit=True)],
            lambda: [forwards.no_hit(small, against_cache_dit=True, threshold=1e-9)],
            lambda: [forwards.no_hit(large, against_cache_dit=False)],
            *([lambda: _bookkeeping((small, large), hit=False)] if on_cpu else []),
        ],
        "hit": [
            lambda: forwards.every_step_hits(small),
            lambda: forwards.every_step_hits(large),
            *([lambda: _bookkeeping((small, large), hit=True)] if on_cpu else []),
        ],
        "switch": [lambda: switching.enable_and_refresh(20 if quick else 100, clock)],
        "startup": [lambda: startup.startup(3 if quick else 11)],
        "models": [
            lambda: models.full_size(
                given.models,
                series=1 if quick else 2,
                device=device,
                clock=clock,
                tiny=given.tiny,
            )
        ],
    }
    return [part for name, group in parts.items() if name in given.only for part in group]


def _bookkeeping(setups: Sequence[forwards.Setup], *, hit: bool) -> list[Row]:
    return [forwards.bookkeeping(setup, hit=hit) for setup in setups]


if __name__ == "__main__":
    sys.exit(main())
