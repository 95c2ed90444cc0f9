"""``cachedit-yaml demo``: pictures of a small model, without the cache and with it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cachedit_yaml.cli.arguments import add_format, positive
from cachedit_yaml.cli.output import count, make_folder, print_json, table, use_color
from cachedit_yaml.generating.demo.models import MODELS

if TYPE_CHECKING:
    from cachedit_yaml.generating.demo.showcase import Demo

DESCRIPTION: Final = (
    "Generate pictures with a small model that ships with cachedit-yaml, once "
    "without the cache and once with each profile of its adapter; compare time and pictures."
)
EPILOG: Final = """\
examples:
  cachedit-yaml demo                        pictures, timeline and numbers in out/demo
  cachedit-yaml demo --quick                fewer pictures and steps
  cachedit-yaml demo --model flux           FLUX in small, which takes words
  cachedit-yaml demo --seed 7 --steps 30    other pictures
"""
_QUICK_STEPS = 12
_QUICK_LABELS = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--model",
        choices=list(MODELS),
        default="dit",
        help="which of the two models; default: dit",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("out/demo"),
        help="folder for compare.png, timeline.png, report.json and report.html; default: out/demo",
    )
    parser.add_argument("--steps", metavar="N", type=positive, help="denoising steps; default: 50")
    parser.add_argument("--seed", metavar="S", type=int, help="seed of the first picture")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{_QUICK_LABELS} pictures, and {_QUICK_STEPS} steps by default",
    )
    add_format(parser, "the numbers")


def run(args: argparse.Namespace) -> int:
    """Run the demo.

    Returns:
        0; errors are raised.
    """
    from cachedit_yaml.generating.demo import showcase
    from cachedit_yaml.generating.progress import progress
    from cachedit_yaml.registry.registry import Registry

    make_folder("--out", args.out)
    model = MODELS[args.model]
    adapter = Registry.load(args.adapters).get(model.adapter)
    if args.format == "human":
        print("Loading the model ...", file=sys.stderr, flush=True)
    pipeline = model.load()
    labels = showcase.labels_of(pipeline)
    with progress(quiet=args.format == "json") as start:
        demo = showcase.run_demo(
            pipeline,
            adapter,
            model=model,
            steps=args.steps or (_QUICK_STEPS if args.quick else showcase.STEPS),
            labels=labels[:_QUICK_LABELS] if args.quick else labels,
            seed=showcase.SEED if args.seed is None else args.seed,
            start=start,
        )
    files = showcase.write(demo, args.out)
    if args.format == "json":
        print_json(demo.report())
        return 0
    _print(demo)
    print("\n".join(["", *(f"wrote {path}" for path in files)]))
    return 0


def _print(demo: Demo) -> None:
    header = ("PROFILE", "TIME", "SPEED-UP", "BLOCKS COMPUTED", "CACHED STEPS", "PSNR", "SSIM")
    rows = [("uncached", f"{demo.uncached.seconds:.1f} s", "1.0x", "100 %", "0", "-", "-")]
    for item in demo.outcomes:
        rows.append(
            (
                item.name,
                f"{item.generated.seconds:.1f} s",
                f"{item.speedup:.1f}x",
                f"{100 * item.stats.computed_fraction:.0f} %",
                f"{item.cached_steps} of {demo.steps}",
                item.quality.psnr_text,
                f"{item.quality.ssim:.4f}",
            )
        )
    pictures = f"{len(demo.labels)} pictures at {count(demo.steps, 'step')}, processor time"
    if not use_color(sys.stdout) or not _print_rich(pictures, header, rows):
        print(f"\n{pictures}\n\n" + "\n".join(table(rows, header)))
    for item in demo.outcomes:
        for warning in item.stats.warnings:
            print(f"{item.name}: warning: {warning}")


def _print_rich(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> bool:
    """Print the table with rich; False where that is not installed."""
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        return False
    found = Table(title=title, box=box.ROUNDED, header_style="bold", title_style="bold")
    for index, name in enumerate(header):
        found.add_column(
            name.lower(),
            justify="right" if index else "left",
            style="bold green" if name == "SPEED-UP" else None,
        )
    for row in rows:
        found.add_row(*row)
    Console().print(found)
    return True
