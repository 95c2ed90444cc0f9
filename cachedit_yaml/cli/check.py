"""``cachedit-yaml check``: prove adapters on small models without weights."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from cachedit_yaml.cli.arguments import (
    add_adapters,
    add_call,
    add_engine,
    add_format,
    add_import,
    add_jobs,
    add_model,
)
from cachedit_yaml.cli.facts import some
from cachedit_yaml.cli.named import find_all, find_chosen, specs
from cachedit_yaml.cli.output import count, print_json, quiet_libraries, say, table
from cachedit_yaml.errors import ConfigError
from cachedit_yaml.registry.live import match_live
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.yaml.diagnostics import nearest, plain

if TYPE_CHECKING:
    from cachedit_yaml.language.spec import AdapterSpec
    from cachedit_yaml.probe.check import Checked, Status
    from cachedit_yaml.probe.limits import Limits

DESCRIPTION: Final = (
    "Make the small models that adapters describe under 'probe', and prove on "
    "them that caching is exact."
)
EPILOG: Final = """\
examples:
  cachedit-yaml check                      every adapter that has a probe
  cachedit-yaml check flux my-model.yaml   some, by name, file or folder
  cachedit-yaml check flux --only FluxControlNetPipeline
  cachedit-yaml check --against cache-dit  beside cache-dit's own hand-written adapters
  cachedit-yaml check flux --explain       what the loops do besides calling the block
  cachedit-yaml check --pipeline ./flux --prompt "a cat" --steps 8     with real weights
  cachedit-yaml check --format json > proofs.json

a probe is data from a stranger, so it may ask for little (see docs/security.md); one for an
engine runs as that engine does, with network and files:
  cachedit-yaml check flux --limit memory=8192 --limit seconds=900
  cachedit-yaml check my.yaml --engine diffusers

what is proved, for each case of a probe:
  exact     with no hit the output is bit-identical to the uncached one
  hits      a hit computes exactly F + B blocks of each list and stays finite
  values    a hit returns what would be computed from the same arguments
  native    cache-dit's own execution, where it is allowed, gives the same
  restored  after disabling everything is as before
"""
#: Of a limit that the system takes.
_DIGITS: Final = 12
_NO_PROBE = "it has no probe"
_NO_PROBE_HINT = (
    "; add 'probe:' (docs/probe.md), or try the model itself: --pipeline FOLDER --prompt TEXT"
)
_COLUMNS = ("exact", "hits", "values", "native", "batch", "restored")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_import(parser)
    add_adapters(parser)
    parser.add_argument(
        "--only",
        metavar="PIPELINE",
        nargs="+",
        action="extend",
        default=[],
        help="only these pipeline classes",
    )
    parser.add_argument(
        "--against",
        choices=("cache-dit",),
        help="also run the code written by hand around it: its own, or the engine's",
    )
    parser.add_argument(
        "--explain", action="store_true", help="what is read off the source of the loops"
    )
    add_engine(parser, help="only in this engine; default: in each that the adapters serve")
    add_jobs(parser)
    parser.add_argument(
        "--limit",
        metavar="NAME=NUMBER",
        action="append",
        default=[],
        help="how much a probe may ask for; several times. NAME: makes, cases, number, layers, "
        "parameters, steps, size, pixels, elements, memory (MiB) or seconds",
    )
    add_format(parser, "the proofs")
    real = parser.add_argument_group("a pipeline with its real weights")
    add_model(real, "--pipeline", help="folder of a diffusers pipeline")
    add_call(real)


def run(args: argparse.Namespace) -> int:
    """Prove.

    Returns:
        0 when everything tried is proved, 1 when something failed, 2 when nothing could be tried.
    """
    quiet_libraries()
    import torch

    registry = Registry.load(args.adapters)
    if args.pipeline is None:
        torch.set_num_threads(1)  # small tensors gain nothing from more
    wanted = args.targets or args.pipeline is None
    chosen = list(specs(find_all(registry, args.targets, args.engine))) if wanted else []
    _check_only(args.only, chosen)
    if args.explain:
        from cachedit_yaml.cli.loops import print_loops

        if not print_loops(chosen, args.only, args.format):
            raise ConfigError("no loop to explain: " + _why_nothing(chosen, []))
        return 0
    results: list[Checked] = []
    try:
        # Closed also when interrupted here, for the processes that work on it.
        with contextlib.closing(_results(args, registry, chosen)) as tried:
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
    elif failed or proved:
        say(*_report(results, bool(args.against)))
    if not failed and not proved:
        why = _why_nothing(chosen, results)
        hint = _NO_PROBE_HINT if _NO_PROBE in why else ""
        raise ConfigError(f"nothing was proved: {why}{hint}")
    return 1 if failed else 0


def _check_only(only: Sequence[str], chosen: Sequence[AdapterSpec]) -> None:
    """Refuse classes that none of the adapters names.

    Raises:
        ConfigError: there is one.
    """
    known = sorted({name for spec in chosen for name in spec.pipelines})
    for name in only:
        if name not in known:
            near = nearest(name, known, limit=3)
            hint = f"nearest: {', '.join(near)}" if near else f"they have: {some(known) or 'none'}"
            raise ConfigError(f"--only {name}: none of the adapters has this pipeline; {hint}")


def _why_nothing(chosen: Sequence[AdapterSpec], results: Sequence[Checked]) -> str:
    why: dict[str, str] = {}
    for item in results:
        why.setdefault(item.detail, f"{item.adapter}: {item.detail}")
    for spec in chosen if not results else ():
        detail = _NO_PROBE if spec.probe is None else "its probe makes no pipeline"
        detail = detail if spec.refuse is None else f"refuses: {spec.refuse}"
        why.setdefault(detail, f"{spec.name}: {detail}")
    more = [f"and {len(why) - 3} more reasons"] if len(why) > 3 else []
    return "; ".join([*list(why.values())[:3], *more]) or "no adapter was found"


def _results(
    args: argparse.Namespace, registry: Registry, chosen: Sequence[AdapterSpec]
) -> Generator[Checked]:
    if args.pipeline is not None:
        yield _check_real(args, registry, chosen)
        return
    from cachedit_yaml.probe.check import check

    against = args.against is not None
    limits = _limits(args.limit)
    yield from check(chosen, pipelines=args.only, against=against, jobs=args.jobs, limits=limits)


def _limits(given: Sequence[str]) -> Limits:
    """The limits with those of the command line.

    Raises:
        ConfigError: one is not NAME=NUMBER, or has no such name.
    """
    from cachedit_yaml.probe.limits import Limits

    known = vars(Limits())
    raised = {}
    for text in given:
        name, _, number = text.partition("=")
        if name not in known or not number.isdecimal() or len(number) > _DIGITS:
            raise ConfigError(f"--limit {text}: write NAME=NUMBER, with one of {', '.join(known)}")
        raised[name] = int(number)
    return Limits(**raised)


def _check_real(
    args: argparse.Namespace, registry: Registry, chosen: Sequence[AdapterSpec]
) -> Checked:
    from cachedit_yaml.generating.calling import Wishes, build_call, values_of
    from cachedit_yaml.generating.loading import load_pipeline
    from cachedit_yaml.probe.check import Checked
    from cachedit_yaml.probe.live import check
    from cachedit_yaml.probe.recipe import PLAIN

    spec = chosen[0] if args.targets else None
    if spec is None and (beside := find_chosen(registry, None, args.pipeline)) is not None:
        say(f"note: {beside.note}", stream=sys.stderr)
        spec = beside.spec
    pipeline = load_pipeline(args.pipeline, args.device, option="--pipeline")
    spec = spec or match_live(registry, pipeline).spec
    more = values_of(args.arg, "--arg")
    wishes = Wishes(prompts=args.prompt, labels=args.label, steps=args.steps, more=more)
    call = build_call(pipeline, wishes)
    if callable(getattr(pipeline, "set_progress_bar_config", None)):
        pipeline.set_progress_bar_config(disable=True)
    proof = check(pipeline, spec, lambda: pipeline(**call.with_generators()))
    status: Status = "failed" if proof.failed else "proved"
    return Checked(spec.name, proof.pipeline, None, PLAIN, status, proofs=proof.claims)


def _report(results: Sequence[Checked], against: bool) -> Iterator[str]:
    header = ["ADAPTER", "PIPELINE", "CASES", *map(str.upper, _COLUMNS)]
    rows = list(_rows(results, against))
    if rows:
        yield from table(rows, [*header, "CACHE-DIT"] if against else header)
        yield ""
    for item in results:
        if item.status == "failed":
            yield f"{item.adapter}: {item}"
            yield from (f"  {line}" for text in item.failures() for line in text.split("\n"))
            yield ""
    rivals = [item for item in results if item.rival is not None and item.rival.detail]
    if rivals:
        yield "cache-dit's own adapters:"
        for item in rivals:
            make = f" [{item.variant}]" if item.variant else ""
            assert item.rival is not None
            yield f"  {item.pipeline}{make}: {item.rival.outcome}: {item.rival.detail}"
        yield ""
    skipped: dict[str, dict[str, None]] = {}
    untold: dict[str, dict[str, None]] = {}
    for item in results:
        if item.status == "skipped":
            skipped.setdefault(item.detail, {})[item.adapter] = None
        for proof in item.proofs:
            if proof.name == "values" and proof.verdict == "not allowed":
                untold.setdefault(proof.detail, {})[item.adapter] = None
    for title, found in (("skipped", skipped), ("values not compared", untold)):
        if found:
            yield f"{title}:"
            yield from (f"  {some(list(names))}: {why}" for why, names in found.items())
            yield ""
    failed = sum(item.status == "failed" for item in results)
    proved = sum(item.status == "proved" for item in results)
    yield f"{count(proved, 'case')} proved, {failed} failed"


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
        return "no" if name == "native" else "-"
    return "yes" if verdicts else "-"


def _show_progress(item: Checked | None, number: int) -> None:
    """One line that is written over, on a terminal only."""
    if not sys.stderr.isatty():
        return
    text = f"{number}: {item.adapter}, {item}" if item is not None else ""
    print(f"\r\x1b[K{plain(text)[:100]}", end="", file=sys.stderr, flush=True)
