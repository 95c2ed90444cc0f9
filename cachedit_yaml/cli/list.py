"""``cachedit-yaml list``: the adapters that can be found."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from cachedit_yaml.cli.output import count, print_diagnostics, print_json, table
from cachedit_yaml.language.spec import AdapterSpec, Transformer
from cachedit_yaml.registry.registry import Entry, Registry
from cachedit_yaml.yaml.diagnostics import format_path

_EPILOG = """\
examples:
  cachedit-yaml list
  cachedit-yaml --adapters my/ list
  cachedit-yaml list --format json
  cachedit-yaml list --format markdown
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "list",
        help="list the adapters that can be found",
        epilog=_EPILOG,
        description="List the adapters that can be found: name, pipelines, block lists, source.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--format",
        choices=("human", "json", "markdown"),
        default="human",
        help="how to print the list",
    )


def run(args: argparse.Namespace) -> int:
    """Print the list.

    Returns:
        0, or 1 when some adapters are broken.
    """
    registry = Registry.load(args.adapters)
    entries = registry.adapters()
    broken = [entry for entry in entries if _spec(entry) is None]
    if args.format == "json":
        print_json([_as_dict(entry) for entry in entries])
    elif args.format == "markdown":
        print(markdown(entries))
    else:
        rows = [_row(entry) for entry in entries]
        print(table(rows, ("NAME", "SOURCE", "BLOCK LISTS", "PIPELINES")))
        print_diagnostics(registry.source_problems)
        note = f", {len(broken)} broken; see 'cachedit-yaml validate'" if broken else ""
        print(f"\n{count(len(entries), 'adapter')}{note}")
    return 1 if broken else 0


def markdown(entries: Sequence[Entry]) -> str:
    """The adapters as a Markdown table."""
    lines = ["| Adapter | Models | Pipelines |", "|---|---|---|"]
    for entry in entries:
        if (spec := _spec(entry)) is not None:
            shown = spec.description or ", ".join(spec.models) or "-"
            number = "refused" if spec.refuse else str(len(spec.pipelines))
            lines.append(f"| {entry.label} | {shown} | {number} |")
    return "\n".join(lines)


def list_names(spec: AdapterSpec) -> list[tuple[str, str]]:
    """Name and pattern of each block list, those of variants included, each once."""
    found: dict[tuple[str, str], None] = {}
    for name, transformer in spec.transformers.items():
        for blocks in _layouts(transformer):
            for block, content in blocks.items():
                found[(f"{name}.{block}", content.pattern)] = None
    return list(found)


def _layouts(transformer: Transformer) -> list[Any]:
    layouts = [variant.blocks for variant in transformer.variants or ()]
    return [*layouts, transformer.blocks] if transformer.blocks else layouts


def _spec(entry: Entry) -> AdapterSpec | None:
    return entry.checked_spec


def _row(entry: Entry) -> tuple[str, str, str, str]:
    spec = _spec(entry)
    if spec is None:
        return entry.label, entry.kind, "(broken)", entry.shown
    if spec.refuse is not None:
        lists = "(refused)"
    else:
        lists = ", ".join(f"{name}:{pattern[-1]}" for name, pattern in list_names(spec))
    serves = spec.pipelines or [name for name, *_ in entry.claims("transformer")]
    return entry.label, entry.kind, lists, _some(serves)


def _some(names: Sequence[str], limit: int = 3) -> str:
    """The first names and how many more there are: some adapters serve a dozen pipelines."""
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown or "-"


def _as_dict(entry: Entry) -> dict[str, Any]:
    spec = _spec(entry)
    result: dict[str, Any] = {
        "name": entry.name,
        "engines": list(entry.engines),
        "path": str(entry.path),
        "source": entry.kind,
        "valid": spec is not None,
    }
    if spec is None:
        result["problems"] = [f"{format_path(d.key_path)}: {d.message}" for d in entry.diagnostics]
        return result
    return {
        **result,
        "pipelines": list(spec.pipelines),
        "transformers": [name for name, *_ in entry.claims("transformer")],
        "models": list(spec.models),
        "lists": dict(list_names(spec)),
        "profiles": list(spec.profiles),
        "refuse": spec.refuse,
    }
