"""``cachedit-yaml tune``: profiles that were measured on one's own model."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cachedit_yaml.cli.arguments import add_call, add_format, add_import, add_model
from cachedit_yaml.cli.named import STDIN, find_one
from cachedit_yaml.cli.output import make_folder, print_json, say, table
from cachedit_yaml.errors import ConfigError
from cachedit_yaml.generating.calling import Wishes, build_call, values_of
from cachedit_yaml.registry.live import match_live
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.yaml.encoding import from_json

if TYPE_CHECKING:
    from cachedit_yaml.tuning.tune import Tuning

DESCRIPTION: Final = (
    "Find cache settings for a model by measuring: trace a few generations, score all settings on "
    "the trace, run the best of them on other seeds, and write what is chosen as profiles."
)
EPILOG: Final = """\
examples:
  cachedit-yaml tune --model ./dit --label cat fox ufo cake --steps 50
  cachedit-yaml tune --model ./flux --prompts prompts.txt --steps 28 --target fast:psnr=32
  cachedit-yaml tune --model ./wan --prompts calls.jsonl --steps 40 --write wan.yaml --budget 6

--prompts is a text with a prompt in each line, or JSON lines with the arguments of a call each.
A target is psnr=DB (of the worst quarter of the samples, LOW in the table), blocks=SHARE or
speed=FACTOR, with the profile's name in front: fast:speed=3. Without one: the profiles quality,
balanced and fast.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_import(parser)
    add = parser.add_argument
    add_model(parser, required=True, help="folder of a diffusers pipeline (with model_index.json)")
    add(
        "--adapter",
        metavar="ADAPTER_OR_PATH",
        help="its name, file or class; default: the one for the pipeline's class",
    )
    add("--prompts", metavar="FILE", type=Path, help="a prompt a line, or JSON lines")
    add_call(parser)
    add("--guidance", metavar="G", type=float, help="guidance scale; default: the pipeline's")
    add("--seed", metavar="S", type=int, default=0, help="of the first generation; default: 0")
    add(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        help="default: float32 on the CPU, else bfloat16",
    )
    add(
        "--target",
        metavar="[NAME:]KIND=NUMBER",
        action="append",
        default=[],
        help="what a profile is to reach; several times",
    )
    add(
        "--masks",
        action="store_true",
        help="also masks of computed steps with F = 0: better, but for this number of steps only",
    )
    add(
        "--budget",
        metavar="GENERATIONS",
        type=float,
        default=10.0,
        help="what it may cost, in uncached generations of all prompts; default: 10",
    )
    add(
        "--write",
        metavar="FILE",
        type=Path,
        help="the adapter to write the profiles into; default: the one of --adapter if it is a "
        "file of yours, else a new one in --out",
    )
    add("--dry-run", action="store_true", help="write no adapter")
    add("--force", action="store_true", help="replace profiles that the adapter has")
    add("--resume", action="store_true", help="go on with what is in --out")
    add(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("out/tune"),
        help="folder for what is measured, frontier.png and report.html; default: out/tune",
    )
    add_format(parser, "what was measured")


def run(args: argparse.Namespace) -> int:
    """Tune.

    Returns:
        0, or 1 where a target was not reached; errors are raised.
    """
    from cachedit_yaml.generating.loading import check_folder, load_pipeline
    from cachedit_yaml.generating.progress import progress
    from cachedit_yaml.tuning.targets import PROFILES, Target
    from cachedit_yaml.tuning.tune import tune
    from cachedit_yaml.tuning.write import require_room

    check_folder(args.model)
    if not 0 < args.budget < math.inf:
        raise ConfigError(f"--budget {args.budget}: expected a number above 0")
    targets = [Target.parse(item) for item in args.target]
    make_folder("--out", args.out)
    registry = Registry.load(args.adapters)
    if args.adapter == STDIN:
        raise ConfigError("--adapter -: profiles are written into a file; give its name")
    entry = find_one(registry, args.adapter).entry if args.adapter is not None else None
    if entry is not None and entry.kind == "hub" and not args.dry_run:
        raise ConfigError(
            f"--adapter {args.adapter}: profiles are written into a file of yours; save "
            f"{entry.shown} and give its path, or add --dry-run"
        )
    rows = _rows(args)
    quiet = args.format == "json"
    if not quiet:
        say(f"Loading {args.model} ...", stream=sys.stderr)
    pipeline = load_pipeline(args.model, args.device, args.dtype)
    if entry is None:
        entry = match_live(registry, pipeline).entry
    own = entry.kind in ("argument", "environment")
    path = args.write or (entry.path if own else args.out / f"{entry.name}.yaml")
    calls = [_call(pipeline, args, row) for row in rows]
    if not args.dry_run:
        make_folder("--write", path.parent)
        require_room(path, [item.profile for item in targets or PROFILES], force=args.force)
    with _kept(args.out), progress(quiet) as start:
        tuning = tune(
            pipeline,
            calls,
            targets or None,
            adapter=entry.spec,
            masks=args.masks,
            budget=args.budget,
            seed=args.seed,
            folder=args.out,
            resume=args.resume,
            start=start,
        )
    tuning.draw().save(args.out / "frontier.png")
    (args.out / "report.html").write_text(tuning.page(), encoding="utf-8")
    if quiet:
        print_json(_as_dict(tuning))
    else:
        _print(tuning)
        say("", *(f"wrote {args.out / name}" for name in ("frontier.png", "report.html")))
    if tuning.profiles and not args.dry_run:
        changed = tuning.write(path, force=args.force, adapters=args.adapters)
        if not quiet:
            say(f"wrote {path}", *(f"  {line}" for line in changed))
    return 1 if tuning.missed else 0


@contextlib.contextmanager
def _kept(folder: Path) -> Iterator[None]:
    """Say what is left where somebody stops it."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"what was measured is in {folder}; go on with --resume", stream=sys.stderr)
        raise


def _rows(args: argparse.Namespace) -> list[Mapping[str, Any]]:
    """What each call is to show: a prompt, a label, or arguments by name.

    Raises:
        ConfigError: there is none, or the file cannot be read.
    """
    rows: list[Mapping[str, Any]] = [{"prompt": text} for text in args.prompt]
    rows += [{"label": label} for label in args.label]
    if args.prompts is not None:
        try:
            lines = args.prompts.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--prompts {args.prompts}: {error}") from None
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            if not line.lstrip().startswith("{"):
                rows.append({"prompt": line.strip()})
                continue
            try:
                rows.append({"arguments": from_json(line)})
            except ValueError as error:
                raise ConfigError(f"{args.prompts}:{number}: no JSON: {error}") from None
    if not rows:
        empty = f"{args.prompts} holds none" if args.prompts is not None else "give --prompts FILE"
        raise ConfigError(f"no prompts to tune on: {empty}, --prompt TEXT or --label NAME")
    return rows


def _call(pipeline: Any, args: argparse.Namespace, row: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of one call."""
    more = {**values_of(args.arg, "--arg"), **row.get("arguments", {})}
    prompt = more.pop("prompt", row.get("prompt"))
    wishes = Wishes(
        prompts=[prompt] if prompt is not None else [],
        labels=[row["label"]] if "label" in row else [],
        steps=more.pop("num_inference_steps", args.steps),
        guidance=args.guidance,
        more=more,
    )
    return build_call(pipeline, wishes).arguments


def _print(tuning: Tuning) -> None:
    chosen = tuning.names
    header = ("PROFILE", "BLOCKS", "SPEED-UP", "PSNR", "LOW", "WORST", "SSIM", "SETTINGS")
    rows = []
    for item in tuning.frontier:
        near = item.likeness
        name = f"({item.name} before)" if item.name else chosen.get(item.key, "-")
        ssim = "-" if near.ssim is None else f"{near.ssim:.4f}"
        settings = "" if item.name else item.key
        numbers = f"{item.blocks:.1%}", f"{item.speed:.2f}x", f"{near.pooled:.1f}"
        rows.append((name, *numbers, f"{near.low:.1f}", f"{near.worst:.1f}", ssim, settings))
    what = f"{tuning.model}, {tuning.steps} steps, {tuning.samples} samples on {tuning.device}"
    say("", what, "", *table(rows, header))
    for target in tuning.missed:
        say(f"nothing reached {target.kind}={target.value:g} for the profile {target.profile}")
    for note in tuning.notes:
        say(f"note: {note}")


def _as_dict(tuning: Tuning) -> dict[str, Any]:
    """Plain data for JSON."""

    def row(item: Any) -> dict[str, Any]:
        near = item.likeness
        numbers = {"psnr": near.pooled, "low": near.low, "worst": near.worst, "mean": near.mean}
        return {
            "profile": item.name or None,
            "settings": item.settings,
            "blocks": round(item.blocks, 4),
            "speed": round(item.speed, 3),
            # JSON has no infinity: null where the results are equal.
            **{k: round(v, 3) if math.isfinite(v) else None for k, v in numbers.items()},
            "ssim": near.ssim,
        }

    return {
        "model": tuning.model,
        "steps": tuning.steps,
        "samples": tuning.samples,
        "frontier": [row(item) for item in tuning.frontier],
        "profiles": {name: row(item) for name, item in tuning.profiles.items()},
        "missed": [f"{item.profile}:{item.kind}={item.value:g}" for item in tuning.missed],
        "notes": list(tuning.notes),
    }
