"""``cachedit-yaml check``: prove adapters on small models without weights."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachedit_yaml.cli.arguments import add_jobs
from cachedit_yaml.cli.output import count, print_json, quiet_libraries, table
from cachedit_yaml.registry.registry import Registry, of_engine
from cachedit_yaml.registry.search_path import yaml_files

if TYPE_CHECKING:
    from cachedit_yaml.language.spec import AdapterSpec
    from cachedit_yaml.probe.check import Checked

_EPILOG = """\
examples:
  cachedit-yaml check                      every adapter that has a probe
  cachedit-yaml check flux my-model.yaml   some, by name or file
  cachedit-yaml check flux --only FluxControlNetPipeline
  cachedit-yaml check --against cache-dit  beside cache-dit's own hand-written adapters
  cachedit-yaml check flux --explain       what the loops do besides calling the block
  cachedit-yaml check --pipeline ./flux --prompt "a cat" --steps 8     with real weights
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
    add = parser.add_argument
    add(
        "adapters_to_check",
        nargs="*",
        metavar="NAME_OR_PATH",
        help="adapters by name, files or folders; default: all that can be found",
    )
    add(
        "--only",
        metavar="PIPELINE",
        nargs="+",
        action="extend",
        default=[],
        help="only these pipeline classes",
    )
    add(
        "--against",
        choices=("cache-dit",),
        help="also run the code written by hand around it: its own, or the engine's",
    )
    add("--explain", action="store_true", help="what is read off the source of the loops")
    add_jobs(parser)
    add("--format", choices=("human", "json"), default="human", help="how to print the proofs")
    real = parser.add_argument_group("a pipeline with its real weights")
    add = real.add_argument
    add("--pipeline", metavar="DIR", type=Path, help="folder of a diffusers pipeline")
    add("--prompt", metavar="TEXT", action="append", default=[], help="what to show")
    add("--label", metavar="NAME_OR_ID", nargs="+", action="extend", default=[], help="classes")
    add("--steps", metavar="N", type=int, help="denoising steps; default: the pipeline's")
    add("--arg", metavar="NAME=VALUE", action="append", default=[], help="more of its call")
    add("--device", metavar="NAME", help="default: cuda where there is one, else cpu")


def run(args: argparse.Namespace) -> int:
    """Prove.

    Returns:
        0 when everything tried is proved, 1 when something failed or nothing was tried.
    """
    quiet_libraries()
    import torch

    registry = Registry.load(args.adapters)
    if args.pipeline is None:
        torch.set_num_threads(1)  # small tensors gain nothing from more
    if args.explain:
        from cachedit_yaml.cli.loops import print_loops

        return print_loops(specs_of(registry, args.adapters_to_check), args.only, args.format)
    results: list[Checked] = []
    try:
        # Closed also when interrupted here, for the processes that work on it.
        with contextlib.closing(_results(args, registry)) as tried:
            for found in tried:
                results.append(found)
                _show_progress(found, len(results))
    finally:
        _show_progress(None, 0)
    failed = [item for item in results if item.status == "failed"]
    proved = [item for item in results if item.status == "proved"]
    if args.format == "json":
        counts = {"proved": len(proved), "failed": len(failed)}
        counts["skipped"] = len(results) - sum(counts.values())
        print_json(
            {"version": 1, "results": [item.as_dict() for item in results], "summary": counts}
        )
    else:
        print("\n".join(_report(results, bool(args.against))))
    return 1 if failed or not proved else 0


def _results(args: argparse.Namespace, registry: Registry) -> Generator[Checked]:
    if args.pipeline is not None:
        yield _check_real(args, registry)
        return
    from cachedit_yaml.probe.check import check

    yield from check(
        specs_of(registry, args.adapters_to_check),
        pipelines=args.only,
        against=args.against is not None,
        jobs=args.jobs,
    )


def _check_real(args: argparse.Namespace, registry: Registry) -> Checked:
    from cachedit_yaml.generating.calling import Wishes, build_call, values_of
    from cachedit_yaml.generating.loading import load_pipeline
    from cachedit_yaml.probe.local import Local, check_local

    pipeline = load_pipeline(args.pipeline, args.device)
    named = specs_of(registry, args.adapters_to_check) if args.adapters_to_check else []
    spec = named[0] if named else registry.match_pipeline(type(pipeline)).spec
    more = values_of(args.arg, "--arg")
    wishes = Wishes(prompts=args.prompt, labels=args.label, steps=args.steps, more=more)
    call = build_call(pipeline, wishes)
    return check_local(Local(spec, pipeline, call.arguments, call.seeds))


def specs_of(registry: Registry, names: Sequence[str]) -> list[AdapterSpec]:
    """The adapters that are named, or all, with their probes, once for each engine.

    Raises:
        AdapterNotFoundError: there is none of that name.
        AdapterError: one of them is wrong.
    """
    if not names:
        return [spec for entry in registry.adapters() for spec in entry.to_prove()]
    found: list[AdapterSpec] = []
    for name in names:
        files = yaml_files(Path(name)) if Path(name).is_dir() else [name]
        for file in files:
            engine, _ = of_engine(file)
            found += registry.find(file).to_prove(engine)
    return found


def _report(results: Sequence[Checked], against: bool) -> Iterator[str]:
    header = ["ADAPTER", "PIPELINE", "CASES", *map(str.upper, _COLUMNS)]
    yield table(list(_rows(results, against)), [*header, "CACHE-DIT"] if against else header)
    for item in results:
        if item.status == "failed":
            yield f"\n{item.adapter}: {item}"
            yield from (f"  {line}" for line in item.failures())
    rivals = [item for item in results if item.rival is not None and item.rival.detail]
    if rivals:
        yield "\ncache-dit's own adapters:"
        for item in rivals:
            make = f" [{item.variant}]" if item.variant else ""
            assert item.rival is not None
            yield f"  {item.pipeline}{make}: {item.rival.outcome}: {item.rival.detail}"
    skipped = {(item.adapter, item.detail): None for item in results if item.status == "skipped"}
    if skipped:
        yield "\nskipped:"
        yield from (f"  {name}: {why}" for name, why in skipped)
    failed = sum(item.status == "failed" for item in results)
    proved = sum(item.status == "proved" for item in results)
    yield f"\n{count(proved, 'case')} proved, {failed} failed"


def _rows(results: Sequence[Checked], against: bool) -> Iterable[Sequence[str]]:
    """One line for each make of each pipeline, over all of its cases."""
    groups: dict[tuple[str, str, str | None], list[Checked]] = {}
    for item in results:
        if item.status != "skipped":
            groups.setdefault((item.adapter, item.pipeline, item.variant), []).append(item)
    for (adapter, pipeline, variant), items in groups.items():
        shown = pipeline or "(transformer alone)"
        name = f"{shown} [{variant}]" if variant else shown
        cases = str(sum(bool(item.case) for item in items))
        rival = items[0].rival
        theirs = [rival.outcome if rival is not None else "-"] if against else []
        yield (adapter, name, cases, *(_verdict(items, column) for column in _COLUMNS), *theirs)


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
