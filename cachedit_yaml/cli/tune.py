"""``cachedit-yaml tune``: profiles that were measured on one's own model."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cachedit_yaml.cli.arguments import add_format, add_generation
from cachedit_yaml.cli.named import STDIN, find_chosen
from cachedit_yaml.cli.output import check_file, make_folder, print_json, say, table
from cachedit_yaml.errors import ConfigError
from cachedit_yaml.generating.calling import Wishes, build_call, values_of
from cachedit_yaml.registry.live import match_live
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.registry.search_path import ENVIRONMENT_VARIABLE
from cachedit_yaml.yaml.encoding import from_json

if TYPE_CHECKING:
    from cachedit_yaml.registry.entry import Entry
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
    add_generation(parser)
    add = parser.add_argument
    add("--prompts", metavar="FILE", type=Path, help="a prompt a line, or JSON lines")
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
    add("--dry-run", action="store_true", help="write no adapter; print what would be written")
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
    chosen = find_chosen(registry, args.adapter, args.model)
    if chosen is not None and chosen.note:
        say(f"note: {chosen.note}", stream=sys.stderr)
    entry = chosen.entry if chosen is not None else None
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
    option, path = _place(args, entry)
    calls = [_call(pipeline, args, row) for row in rows]
    names = [item.profile for item in targets or PROFILES]
    if not args.dry_run:
        make_folder(option, path.parent)
        check_file(option, path)
    require_room(path, names, registry, force=args.force or args.dry_run)
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
    changed = []
    if tuning.profiles:
        changed = tuning.write(path, force=args.force, dry_run=args.dry_run, adapters=args.adapters)
    if quiet:
        print_json({**_as_dict(tuning), "written": None if args.dry_run else str(path)})
        return 1 if tuning.missed else 0
    _print(tuning)
    say("", *(f"wrote {args.out / name}" for name in ("frontier.png", "report.html")))
    if not changed:
        say(f"nothing was written into {path}: no profile reached its target")
    elif args.dry_run:
        say(f"nothing was written into {path} (--dry-run); it would get:")
    else:
        say(f"wrote {path}")
    for line in changed:
        say(f"  {line}")
    if changed and args.dry_run:
        say("", *tuning.text().rstrip("\n").split("\n"))
    return 1 if tuning.missed else 0


def _place(args: argparse.Namespace, entry: Entry) -> tuple[str, Path]:
    """The file that the profiles go into, and the option that says so."""
    if args.write is not None:
        return "--write", args.write
    # The folder of a model stays as it is, whoever it is from.
    options = {"argument": "--adapter", "environment": ENVIRONMENT_VARIABLE}
    if entry.kind in options:
        return options[entry.kind], entry.path
    return "--out", args.out / f"{entry.name}.yaml"


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
            why = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(
                f"--prompts {args.prompts}: {why}; give a text file with a prompt in each line"
            ) from None
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
    from cachedit_yaml.tuning.targets import NOT_TIMED

    names, others = tuning.names, tuning.others
    header = ("PROFILE", "BLOCKS", "SPEED-UP", "PSNR", "LOW", "WORST", *others, "SETTINGS")
    rows = []
    for item in tuning.frontier:
        near = item.likeness
        name = f"({item.name} before)" if item.name else names.get(item.key, "-")
        decibels = (f"{value:.1f}" for value in (near.pooled, near.low, near.worst))
        beside = (near.others().get(kind, "-") for kind in others)
        settings = "" if item.name else item.key
        rows.append((name, f"{item.blocks:.1%}", item.speed_text, *decibels, *beside, settings))
    say("", f"{tuning.title} ({tuning.model} on {tuning.device})", f"{tuning.what}", "")
    say(*table(rows, header), "", f"SPEED-UP: {NOT_TIMED}")
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
            "timed": item.timed,
            # JSON has no infinity: null where the results are equal.
            **{k: round(v, 3) if math.isfinite(v) else None for k, v in numbers.items()},
            **{name.lower(): float(text) for name, text in near.others().items()},
        }

    return {
        "model": tuning.model,
        "measured": tuning.what,
        "steps": tuning.steps,
        "samples": tuning.samples,
        "frontier": [row(item) for item in tuning.frontier],
        "profiles": {name: row(item) for name, item in tuning.profiles.items()},
        "missed": [f"{item.profile}:{item.kind}={item.value:g}" for item in tuning.missed],
        "notes": list(tuning.notes),
    }
