"""``cachedit-yaml list``: the adapters that can be found."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Final

from cachedit_yaml.cli.arguments import add_adapters, add_engine, add_format
from cachedit_yaml.cli.facts import measured_settings, some
from cachedit_yaml.cli.named import find_all
from cachedit_yaml.cli.output import count, print_diagnostics, print_json, say, table
from cachedit_yaml.compiler.matching import layouts_of
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.registry.registry import Entry, Registry
from cachedit_yaml.yaml.diagnostics import format_path, plain

_HEADER: Final = ("NAME", "SOURCE", "ENGINES", "MEASURED", "BLOCK LISTS", "PIPELINES")
DESCRIPTION: Final = (
    "List the adapters that can be found, one for a family of models: the engines that it serves, "
    "the settings that were measured, block lists with their patterns, pipelines. Into a pipe, "
    "the columns are parted by tabs."
)
EPILOG: Final = """\
examples:
  cachedit-yaml list
  cachedit-yaml list flux my/              some, by name, file or folder
  cachedit-yaml list --engine NAME         those for one engine, as it sees them
  cachedit-yaml --adapters my/ list
  cachedit-yaml list --format json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_adapters(parser)
    add_engine(parser, help="only those that serve this engine, as it sees them")
    add_format(parser, "the list", "names")


def run(args: argparse.Namespace) -> int:
    """Print the list.

    Returns:
        0, or 1 when some adapters are broken.
    """
    registry = Registry.load(args.adapters)
    entries = [item.entry for item in find_all(registry, args.targets)]
    if args.engine is not None:
        entries = [entry for entry in entries if args.engine in entry.engines]
    if args.format == "names":
        say(*sorted({entry.name for entry in entries}))
        return 0
    broken = [entry for entry in entries if entry.checked_spec is None]
    if args.format == "json":
        print_json([_as_dict(entry, args.engine) for entry in entries])
    else:
        rows = [_row(entry, args.engine) for entry in entries]
        if sys.stdout.isatty():
            say(*table(rows, _HEADER))
        else:
            print("\n".join("\t".join(map(plain, row)) for row in (_HEADER, *rows)))
        print_diagnostics(registry.source_problems)
        note = f", {len(broken)} broken; see 'cachedit-yaml validate'" if broken else ""
        print(f"\n{count(len(entries), 'adapter')}{note}")
    return 1 if broken else 0


def list_names(spec: AdapterSpec) -> list[tuple[str, str]]:
    """Name and pattern of each block list, those of variants included, each once."""
    found: dict[tuple[str, str], None] = {}
    for name, transformer in spec.transformers.items():
        for blocks in layouts_of(transformer):
            for block, content in blocks.items():
                found[(f"{name}.{block}", content.pattern)] = None
    return list(found)


def _row(entry: Entry, engine: str | None) -> tuple[str, ...]:
    first = (entry.name, entry.kind, ",".join(entry.engines))
    if entry.checked_spec is None:
        return (*first, "-", "(broken)", entry.shown)
    spec = entry.spec_for(engine)
    lists = ", ".join(f"{name}:{pattern[-1]}" for name, pattern in list_names(spec))
    serves = spec.pipelines or [claim.name for claim in entry.claims("transformer", engine)]
    measured = ",".join(name for name, _ in measured_settings(spec))
    refused = "(refused)" if spec.refuse is not None else ""
    return (*first, measured or "-", refused or lists, some(list(serves)) or "-")


def _as_dict(entry: Entry, engine: str | None) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": entry.name,
        "engines": {
            name: [claim.name for claim in entry.claims("pipeline", name)] for name in entry.engines
        },
        "path": str(entry.path),
        "source": entry.kind,
        "valid": entry.checked_spec is not None,
    }
    if entry.checked_spec is None:
        result["problems"] = [f"{format_path(d.key_path)}: {d.message}" for d in entry.diagnostics]
        return result
    spec = entry.spec_for(engine)
    return {
        **result,
        "pipelines": list(spec.pipelines),
        "transformers": [claim.name for claim in entry.claims("transformer", engine)],
        "models": list(spec.models),
        "lists": dict(list_names(spec)),
        "profiles": list(spec.profiles),
        "measured": [name for name, _ in measured_settings(spec)],
        "refuse": spec.refuse,
    }
