"""``cachedit-yaml run``: generate with a cached pipeline from a local folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cachedit_yaml.cli.arguments import (
    add_format,
    add_generation,
    add_settings,
    positive,
)
from cachedit_yaml.cli.named import find_chosen
from cachedit_yaml.cli.output import check_file, make_folder, print_json, say
from cachedit_yaml.errors import CacheditYamlError, ConfigError
from cachedit_yaml.generating.calling import Wishes, build_call, settings_of, values_of
from cachedit_yaml.registry.live import match_live
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.yaml.diagnostics import one_of

if TYPE_CHECKING:
    from cachedit_yaml.generating.generate import Generated
    from cachedit_yaml.generating.progress import Start
    from cachedit_yaml.generating.results import Result
    from cachedit_yaml.language.spec import AdapterSpec, CacheSettings
    from cachedit_yaml.registry.entry import Entry

DESCRIPTION: Final = "Load a diffusers pipeline from a local folder, switch caching on, generate."
EPILOG: Final = """\
examples:
  cachedit-yaml run --model ./dit --label fox panda --steps 50 --compare
  cachedit-yaml run --model ./flux --prompt "a lighthouse in a storm" --profile fast
  cachedit-yaml run --model ./mine --adapter mine.yaml --prompt "a cat" --out cat.png
  cachedit-yaml run --model ./dit --label 3 --set residual_diff_threshold=0.2 --format json
  cachedit-yaml run --model ./wan --prompt "waves" --arg num_frames=33
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add = parser.add_argument
    add_generation(parser)
    add_settings(parser)
    add("--height", metavar="PX", type=positive, help="default: the pipeline's")
    add("--width", metavar="PX", type=positive, help="default: the pipeline's")
    add(
        "--execution",
        choices=("loop", "native"),
        default="loop",
        help="hook the blocks in their own loop, or install through cache-dit; default: loop",
    )
    add(
        "--compare",
        action="store_true",
        help="also generate without the cache: speed-up, how near it comes (PSNR and what fits "
        "pictures, videos or sound), a side-by-side picture and report.html",
    )
    add(
        "--timeline",
        metavar="FILE",
        type=Path,
        help="draw which blocks ran at which step, into a PNG",
    )
    add(
        "--out",
        metavar="FILE_OR_DIR",
        type=Path,
        default=Path("out/run"),
        help="where to save; default: out/run",
    )
    add_format(parser, "the numbers")


def run(args: argparse.Namespace) -> int:
    """Generate.

    Returns:
        0; errors are raised.
    """
    from cachedit_yaml.generating.loading import CouldNotRunError, check_folder
    from cachedit_yaml.generating.results import PICTURES, is_file

    check_folder(args.model)
    values_of(args.arg, "--arg")  # what is wrong there is said before the weights are loaded
    make_folder("--out", args.out.parent if is_file(args.out) else args.out)
    if args.timeline is not None:
        make_folder("--timeline", args.timeline.parent)
        check_file("--timeline", args.timeline)
        if args.timeline.suffix.lower() not in PICTURES:
            raise ConfigError(f"--timeline {args.timeline}: a picture ends in {one_of(PICTURES)}")
    settings = settings_of(args.set)
    registry = Registry.load(args.adapters)
    chosen = find_chosen(registry, args.adapter, args.model)
    if chosen is not None and chosen.note and args.adapter is None:
        say(f"note: {chosen.note}", stream=sys.stderr)
    found = None if chosen is None else (chosen.spec, chosen.entry)
    if args.compare:
        try:
            import skimage.metrics  # noqa: F401
        except ImportError:
            raise CouldNotRunError(
                "--compare needs scikit-image; install it with pip install 'cachedit-yaml[demo]'"
            ) from None
    quiet = args.format == "json"
    result = _generate(args, registry, found, settings, quiet)
    result.save(args.out, args.timeline)
    if quiet:
        print_json(result.as_dict())
    else:
        say(*str(result).split("\n"))
    return 0


def _generate(
    args: argparse.Namespace,
    registry: Registry,
    found: tuple[AdapterSpec, Entry] | None,
    settings: CacheSettings | None,
    quiet: bool,
) -> Result:
    import cachedit_yaml
    from cachedit_yaml.generating.generate import generate
    from cachedit_yaml.generating.loading import CouldNotRunError, load_pipeline, one_line
    from cachedit_yaml.generating.progress import progress
    from cachedit_yaml.generating.results import Result
    from cachedit_yaml.generating.usual import usual_arguments

    if not quiet:
        say(f"Loading {args.model} ...", stream=sys.stderr)
    pipeline = load_pipeline(args.model, args.device, args.dtype)
    if found is None:
        match = match_live(registry, pipeline)
        found = match.spec, match.entry
    spec, entry = found
    call = build_call(
        pipeline,
        Wishes(
            prompts=args.prompt,
            labels=args.label,
            steps=args.steps,
            guidance=args.guidance,
            seed=args.seed,
            height=args.height,
            width=args.width,
            more=values_of(args.arg, "--arg"),
        ),
        usual_arguments(pipeline, entry, registry, lambda text: say(text, stream=sys.stderr)),
    )
    options: dict[str, Any] = {
        "profile": args.profile,
        "cache_config": settings,
        "execution": args.execution,
    }
    # What does not fit is said before the first picture, not after it.
    cachedit_yaml.enable(pipeline, spec, **options).disable()

    def once(start: Start, name: str, **more: Any) -> Generated:
        steps = more.get("num_inference_steps", args.steps)
        try:
            return generate(pipeline, {**call.arguments, **more}, call.seeds, start(name, steps))
        except CacheditYamlError:
            raise
        except Exception as error:
            cls = type(pipeline).__name__
            raise CouldNotRunError(f"{cls} failed: {one_line(error)}") from None

    uncached = None
    with progress(quiet) as start:
        if args.compare:
            # The first forward of a process allocates and picks kernels: nobody's fault.
            once(start, "warm-up", **({"num_inference_steps": 2} if call.counts_steps else {}))
            uncached = once(start, "uncached")
        with cachedit_yaml.enable(pipeline, spec, **options) as handle:
            cached = once(start, args.profile or "cached")
            return Result(
                names=call.names,
                seeds=call.seeds,
                cached=cached,
                uncached=uncached,
                stats=handle.stats(),
                plan=handle.plan,
                profile=args.profile,
            )
