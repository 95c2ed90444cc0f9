"""``cachedit-yaml run``: generate with a cached pipeline from a local folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachedit_yaml.cli.output import print_json
from cachedit_yaml.errors import AdapterNotFoundError, CacheditYamlError
from cachedit_yaml.generating.calling import Wishes, build_call, settings_of, values_of

if TYPE_CHECKING:
    from cachedit_yaml.generating.generate import Generated
    from cachedit_yaml.generating.progress import Start
    from cachedit_yaml.generating.results import Result
    from cachedit_yaml.language.spec import AdapterSpec, CacheSettings
    from cachedit_yaml.registry.registry import Registry

_EPILOG = """\
examples:
  cachedit-yaml run --model ./dit --label fox panda --steps 50 --compare
  cachedit-yaml run --model ./flux --prompt "a lighthouse in a storm" --profile fast
  cachedit-yaml run --model ./mine --adapter mine.yaml --prompt "a cat" --out cat.png
  cachedit-yaml run --model ./dit --label 3 --set residual_diff_threshold=0.2 --format json
  cachedit-yaml run --model ./wan --prompt "waves" --arg num_frames=33
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "run",
        help="generate with a cached pipeline",
        epilog=_EPILOG,
        description="Load a diffusers pipeline from a local folder, switch caching on, generate.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--model",
        metavar="DIR",
        type=Path,
        required=True,
        help="folder of a diffusers pipeline (with model_index.json)",
    )
    add(
        "--adapter",
        metavar="NAME_OR_PATH",
        help="the adapter; default: the one for the pipeline's class",
    )
    add("--profile", metavar="NAME", help="one of the adapter's profiles")
    add(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a cache setting that wins over adapter and profile; several times",
    )
    add(
        "--prompt",
        metavar="TEXT",
        action="append",
        default=[],
        help="what to show; several times for several pictures",
    )
    add(
        "--label",
        metavar="NAME_OR_ID",
        nargs="+",
        action="extend",
        default=[],
        help="classes to show, for class-conditional models",
    )
    add("--steps", metavar="N", type=positive, help="denoising steps; default: the pipeline's")
    add("--guidance", metavar="G", type=float, help="guidance scale; default: the pipeline's")
    add(
        "--seed",
        metavar="S",
        type=int,
        default=0,
        help="seed of the first picture; each later one has the next number; default: 0",
    )
    add("--height", metavar="PX", type=positive, help="default: the pipeline's")
    add("--width", metavar="PX", type=positive, help="default: the pipeline's")
    add(
        "--arg",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="any other argument of the pipeline's call; several times",
    )
    add(
        "--execution",
        choices=("loop", "native"),
        default="loop",
        help="hook the blocks in their own loop, or install through cache-dit; default: loop",
    )
    add("--device", metavar="NAME", help="default: cuda where there is one, else cpu")
    add(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        help="default: float32 on the CPU, else bfloat16",
    )
    add(
        "--compare",
        action="store_true",
        help="also generate without the cache: speed-up, PSNR, SSIM and a side-by-side picture",
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
    add("--format", choices=("human", "json"), default="human", help="how to print the numbers")


def run(args: argparse.Namespace) -> int:
    """Generate.

    Returns:
        0; errors are raised.
    """
    from cachedit_yaml.generating.loading import CouldNotRunError, check_folder, check_writable
    from cachedit_yaml.generating.results import is_file
    from cachedit_yaml.registry.registry import Registry

    check_folder(args.model)
    check_writable(args.out.parent if is_file(args.out) else args.out)
    if args.timeline is not None:
        check_writable(args.timeline.parent)
    settings = settings_of(args.set)
    registry = Registry.load(args.adapters)
    spec = registry.get(args.adapter) if args.adapter is not None else None
    if args.compare:
        try:
            import skimage.metrics  # noqa: F401
        except ImportError:
            raise CouldNotRunError(
                "--compare needs scikit-image; install it with pip install 'cachedit-yaml[demo]'"
            ) from None
    quiet = args.format == "json"
    result = _generate(args, registry, spec, settings, quiet)
    result.save(args.out, args.timeline)
    if quiet:
        print_json(result.as_dict())
    else:
        print(result)
    return 0


def _generate(
    args: argparse.Namespace,
    registry: Registry,
    spec: AdapterSpec | None,
    settings: CacheSettings | None,
    quiet: bool,
) -> Result:
    import cachedit_yaml
    from cachedit_yaml.generating.generate import generate
    from cachedit_yaml.generating.loading import CouldNotRunError, load_pipeline, one_line
    from cachedit_yaml.generating.progress import progress
    from cachedit_yaml.generating.results import Result

    if not quiet:
        print(f"Loading {args.model} ...", file=sys.stderr, flush=True)
    pipeline = load_pipeline(args.model, args.device, args.dtype)
    if spec is None:
        spec = find_spec(registry, pipeline=type(pipeline))[0]
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


def find_spec(
    registry: Registry,
    name: str | None = None,
    pipeline: type | str | None = None,
    engine: str | None = None,
) -> tuple[AdapterSpec, str | None]:
    """Find an adapter by its name, its file, or the class that it serves.

    Args:
        registry: where to look.
        name: a name, a file, or the name of a class.
        pipeline: a pipeline's class, where there is no name.
        engine: the engine that asks.

    Returns:
        The adapter, and how it was found where that is worth saying.

    Raises:
        AdapterNotFoundError: there is none.
    """
    if name is None:
        assert pipeline is not None
        match = registry.match_pipeline(pipeline, engine)
        return match.spec, match.note
    try:
        return registry.get(name, engine), None
    except AdapterNotFoundError as error:
        if not name.isidentifier():
            raise
        for find in (registry.match_pipeline, registry.match_transformer):
            try:
                match = find(name, engine)
            except AdapterNotFoundError:
                continue
            return match.spec, match.note
        raise error from None


def positive(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return number
