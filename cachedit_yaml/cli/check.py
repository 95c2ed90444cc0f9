"""``cachedit-yaml check``: prove adapters on small models without weights."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachedit_yaml.cli.output import count, print_json, table
from cachedit_yaml.registry import Registry
from cachedit_yaml.search_path import yaml_files

if TYPE_CHECKING:
    from cachedit_yaml.language.spec import AdapterSpec
    from cachedit_yaml.probe.check import Checked

_EPILOG = """\
examples:
  cachedit-yaml check                      every adapter that has a probe
  cachedit-yaml check flux my-model.yaml   some, by name or file
  cachedit-yaml check flux --only FluxControlNetPipeline
  cachedit-yaml check --format json > proofs.json

what is proved, for each case of a probe:
  exact     with no hit the output is bit-identical to the uncached one
  hits      a hit computes exactly F + B blocks of each list and stays finite
  native    cache-dit's own execution, where it is allowed, gives the same
  restored  after disabling everything is as before
"""
_COLUMNS = ("exact", "hits", "native", "restored")


def add_parser(subparsers: Any) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "check",
        help="prove adapters on small models without weights",
        epilog=_EPILOG,
        description="Make the small models that adapters describe under 'probe', and prove on "
        "them that caching is exact.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "adapters_to_check",
        nargs="*",
        metavar="NAME_OR_PATH",
        help="adapters by name, files or folders; default: all that can be found",
    )
    parser.add_argument(
        "--only",
        metavar="PIPELINE",
        nargs="+",
        action="extend",
        default=[],
        help="only these pipeline classes",
    )
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to print the proofs"
    )


def run(args: argparse.Namespace) -> int:
    """Prove.

    Returns:
        0 when everything tried is proved, 1 when something failed or nothing was tried.
    """
    import torch

    from cachedit_yaml.probe.check import check

    torch.set_num_threads(1)  # small tensors gain nothing from more
    results: list[Checked] = []
    for spec in specs_of(Registry.load(args.adapters), args.adapters_to_check):
        for found in check(spec, pipelines=args.only):
            results.append(found)
            _show_progress(found, len(results))
    _show_progress(None, 0)
    failed = [item for item in results if item.status == "failed"]
    proved = [item for item in results if item.status == "proved"]
    if args.format == "json":
        print_json(
            {
                "version": 1,
                "results": [item.as_dict() for item in results],
                "summary": {
                    "proved": len(proved),
                    "failed": len(failed),
                    "skipped": len(results) - len(proved) - len(failed),
                },
            }
        )
    else:
        print(
            table(list(_rows(results)), ("ADAPTER", "PIPELINE", "CASES", *map(str.upper, _COLUMNS)))
        )
        for item in failed:
            print(f"\n{item.adapter}: {item}")
            for line in item.failures():
                print(f"  {line}")
        skipped = {
            (item.adapter, item.detail): None for item in results if item.status == "skipped"
        }
        if skipped:
            print("\nskipped:")
            for name, why in skipped:
                print(f"  {name}: {why}")
        print(f"\n{count(len(proved), 'case')} proved, {len(failed)} failed")
    return 1 if failed or not proved else 0


def specs_of(registry: Registry, names: Sequence[str]) -> Iterable[AdapterSpec]:
    """The adapters that are named, or all.

    Raises:
        AdapterNotFoundError: there is none of that name.
        AdapterError: one of them is wrong.
    """
    if not names:
        return [entry.spec for entry in registry.adapters()]
    found: list[AdapterSpec] = []
    for name in names:
        files = yaml_files(Path(name)) if Path(name).is_dir() else [name]
        found += [registry.get(file) for file in files]
    return found


def _rows(results: Sequence[Checked]) -> Iterable[Sequence[str]]:
    """One line for each make of each pipeline, over all of its cases."""
    groups: dict[tuple[str, str, str | None], list[Checked]] = {}
    for item in results:
        if item.status != "skipped":
            groups.setdefault((item.adapter, item.pipeline, item.variant), []).append(item)
    for (adapter, pipeline, variant), items in groups.items():
        shown = pipeline or "(transformer alone)"
        name = f"{shown} [{variant}]" if variant else shown
        cases = str(sum(bool(item.case) for item in items))
        yield (adapter, name, cases, *(_verdict(items, column) for column in _COLUMNS))


def _verdict(items: Sequence[Checked], name: str) -> str:
    verdicts = {proof.verdict for item in items for proof in item.proofs if proof.name == name}
    if "failed" in verdicts:
        return "FAILED"
    if verdicts == {"not allowed"}:
        return "no"
    return "yes" if verdicts else "-"


def _show_progress(item: Checked | None, number: int) -> None:
    """One line that is written over, on a terminal only."""
    if not sys.stderr.isatty():
        return
    text = f"{number}: {item.adapter}, {item}" if item is not None else ""
    print(f"\r\x1b[K{text[:100]}", end="", file=sys.stderr, flush=True)
