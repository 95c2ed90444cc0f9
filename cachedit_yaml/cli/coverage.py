"""``cachedit-yaml coverage``: which pipelines are cached, and what of it is proved."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cachedit_yaml.cli.arguments import add_adapters, add_engine, add_format, add_jobs
from cachedit_yaml.cli.named import find_all
from cachedit_yaml.cli.output import print_json, quiet_libraries, say, table
from cachedit_yaml.engines import engines, find_engine
from cachedit_yaml.errors import ConfigError
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.yaml.encoding import from_json

if TYPE_CHECKING:
    from cachedit_yaml.probe.coverage import Row

DESCRIPTION: Final = (
    "List every pipeline class with a transformer denoiser that the installed "
    "diffusers has or an adapter names: its adapter, and what check proves of it beside what "
    "cache-dit's own adapter does on the same small model."
)
EPILOG: Final = """\
examples:
  cachedit-yaml coverage                    every pipeline of diffusers that holds a transformer
  cachedit-yaml coverage flux my/           those of some adapters
  cachedit-yaml coverage --no-proof         what is named, without trying it
  cachedit-yaml coverage --format json
  cachedit-yaml coverage --engine NAME --format json > one.json     where an engine is
  cachedit-yaml coverage --merge one.json other.json --format markdown > docs/models.md
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_adapters(parser)
    add_engine(parser, help="only the adapters for the pipelines of one engine")
    parser.add_argument(
        "--merge",
        metavar="FILE",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        help="JSON of this command from other environments: what was tried there counts",
    )
    parser.add_argument("--no-proof", action="store_true", help="try nothing; takes a second")
    add_jobs(parser)
    add_format(parser, "the rows", "markdown")


def run(args: argparse.Namespace) -> int:
    """Print the rows.

    Returns:
        0, or 1 where a pipeline has no adapter or something failed.
    """
    quiet_libraries()
    import torch

    from cachedit_yaml.probe.check import check
    from cachedit_yaml.probe.coverage import coverage, markdown, merge

    torch.set_num_threads(1)
    merged = [row for file in args.merge for row in _read_rows(file)]
    entries = [item.entry for item in find_all(Registry.load(args.adapters), args.targets)]
    asked = engines() if args.engine is None else [find_engine(args.engine)]
    # Of chosen adapters only what they name.
    found = [item for engine in asked for item in engine.denoisers() if not args.targets]
    if args.engine is not None:
        entries = [entry for entry in entries if args.engine in entry.engines]
    specs = [spec for entry in entries for spec in entry.to_prove(args.engine)]
    results = [] if args.no_proof else list(check(specs, against=True, jobs=args.jobs))
    rows = merge(coverage(entries, found, results, args.engine and [args.engine]), merged)
    if args.format == "json":
        print_json([row.as_dict() for row in rows])
    elif args.format == "markdown":
        say(*markdown(rows).split("\n"))
    else:
        say(*_text(rows))
    return 1 if any(row.status == "none" or row.exact is False for row in rows) else 0


def _read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of another environment.

    Raises:
        ConfigError: the file holds none.
    """
    try:
        rows = from_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error  # without the number of the error
        raise ConfigError(f"--merge {file}: {why}") from None
    keys = {"pipeline", "engine", "adapter", "exact", "cache_dit", "detail"}
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and keys <= set(row) for row in rows
    ):
        raise ConfigError(f"--merge {file}: not what 'coverage --format json' prints")
    return rows


def _text(rows: Sequence[Row]) -> Iterator[str]:
    words = {True: "yes", False: "NO", None: "-"}
    header = ("PIPELINE", "ADAPTER", "STATUS", "EXACT", "CACHE-DIT", "BLOCK LISTS")
    yield from table(
        [
            (
                row.pipeline,
                row.adapter or "-",
                row.status,
                words[row.exact],
                row.cache_dit or "-",
                ", ".join(f"{name}:{pattern[-1]}" for name, pattern in row.lists.items()),
            )
            for row in rows
        ],
        header,
    )
    counts = {
        name: sum(row.status == name for row in rows) for name in ("cached", "refused", "none")
    }
    yield ""
    yield ", ".join(f"{number} {name}" for name, number in counts.items())
    theirs = {
        word: sum(row.cache_dit == word for row in rows)
        for word in ("equal", "wrong", "refuses", "absent")
    }
    if any(theirs.values()):
        yield "cache-dit's own adapters: " + ", ".join(f"{n} {w}" for w, n in theirs.items())
    for row in rows:
        if row.detail:
            yield f"  {row.pipeline}: {row.detail}"
