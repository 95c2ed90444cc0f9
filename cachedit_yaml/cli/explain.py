"""``cachedit-yaml explain``: what an adapter means, and where each setting comes from."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from cachedit_yaml.cli.arguments import (
    add_adapter,
    add_engine,
    add_format,
    add_import,
    add_model,
    add_settings,
    positive,
)
from cachedit_yaml.cli.explanation import Explainer
from cachedit_yaml.cli.facts import measured, some
from cachedit_yaml.cli.named import Named, find_one
from cachedit_yaml.cli.output import Dim, count, flow, print_diagnostics, print_json, say, table
from cachedit_yaml.errors import AdapterNotFoundError, ConfigError
from cachedit_yaml.generating.calling import settings_of
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.registry.search_path import display_path

DESCRIPTION: Final = (
    "Show what an adapter means: block lists, step split, guidance, every cache "
    "setting with its origin."
)
EPILOG: Final = """\
examples:
  cachedit-yaml explain flux                               the adapter's defaults
  cachedit-yaml explain flux --profile fast --steps 28     a profile, with its mask
  cachedit-yaml explain my.yaml --set residual_diff_threshold=0.2
  cachedit-yaml explain --pipeline WanPipeline             the adapter of a class
  cachedit-yaml explain wan --model ./wan2.2 --steps 40    the plan for a real pipeline

The steps strip: 1 is computed, 0 may be served from the cache, . is decided in the run.
"""
_BLOCKS: Final = {
    "Pattern_0": "(h, e) -> (h, e)",
    "Pattern_1": "(h, e) -> (e, h)",
    "Pattern_2": "(h, e) -> h",
    "Pattern_3": "h -> h",
    "Pattern_4": "h -> (h, e)",
    "Pattern_5": "h -> (e, h)",
}
_GUIDANCE: Final = {
    "observed": "observed in the run",
    "fused": "one forward a step",
    "separate": "two forwards a step",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_import(parser)
    add_adapter(parser, nargs="?")
    parser.add_argument(
        "--pipeline",
        metavar="CLASS",
        help="also say whether the adapter serves this class of pipelines; without an adapter, "
        "explain the one for it",
    )
    add_engine(parser, help="as this engine sees it; default: diffusers, or the first it serves")
    add_settings(parser)
    parser.add_argument(
        "--steps", metavar="N", type=positive, help="for generations of so many steps"
    )
    add_model(
        parser,
        help="compile against the diffusers pipeline of this folder (its weights are not read)",
    )
    add_format(parser, "the explanation")


def run(args: argparse.Namespace) -> int:
    """Explain.

    Returns:
        0, or 1 when the adapter does not serve ``--pipeline``; errors are raised.
    """
    registry = Registry.load(args.adapters)
    wanted, beside = args.pipeline, None
    if args.model is not None:
        from cachedit_yaml.generating.loading import check_folder

        name = check_folder(args.model)["_class_name"]
        beside = registry.beside(args.model) if wanted in (None, name) else None
        wanted = wanted or name
    if args.adapter is not None:
        named = find_one(registry, args.adapter, args.engine)
    elif beside is not None:
        named = Named(beside, args.engine, beside.note)
    elif wanted is not None:
        match = registry.match_pipeline(wanted, args.engine)
        named = Named(match.entry, args.engine, match.note)
    else:
        raise ConfigError("explain needs an adapter: give ADAPTER_OR_PATH, --pipeline or --model")
    spec = named.spec
    settings = settings_of(args.set)
    plan = None
    if args.model is not None:
        from cachedit_yaml.api import compile_adapter
        from cachedit_yaml.generating.loading import load_pipeline

        pipeline = load_pipeline(args.model, "cpu", "float32", weights=False)
        plan = compile_adapter(spec, pipeline, profile=args.profile, cache_config=settings)
    served = None if args.pipeline is None else _serves(registry, spec, args.pipeline)
    rest = {}
    if not spec.refuse:
        explainer = Explainer(spec, plan, profile=args.profile, steps=args.steps, settings=settings)
        rest = explainer.explain()
        rest["measured"] = measured(spec, args.profile, changed=settings is not None)
    found = {
        "adapter": spec.name,
        "engine": spec.engine,
        "engines": list(named.entry.engines),
        "description": spec.description,
        "source": str(spec.source) if spec.source else None,
        "hub": named.entry.shown if named.entry.kind == "hub" else None,
        "note": named.note,
        "pipelines": list(spec.pipelines),
        "serves": served,
        "refuses": spec.refuse,
        "requires": _requirements(spec),
        "profile": args.profile,
        "profiles": list(spec.profiles),
        "steps": args.steps,
        "model": None
        if plan is None
        else {"path": str(args.model), "pipeline": type(plan.pipeline).__name__},
        **rest,
    }
    if args.format == "json":
        print_json(found)
    else:
        say(*_render(found))
        print_diagnostics(registry.source_problems)
    return 1 if served is not None and not served["served"] else 0


def _serves(registry: Registry, spec: AdapterSpec, pipeline: str) -> dict[str, Any]:
    """Whether an adapter is the one for a class, as far as the class's own name tells."""
    try:
        match = registry.match_pipeline(pipeline, spec.engine)
    except AdapterNotFoundError:
        named, how = pipeline in spec.pipelines, "no adapter that can be found names it"
    else:
        if match.spec.source == spec.source:
            return {"class": pipeline, "served": True, "how": match.note or "by its own name"}
        named = pipeline in spec.pipelines
        how = f"the one for it is {match.spec.name} ({match.entry.shown})"
    if named:
        how = f"by its own name, where it is asked for by name or path: {how}"
    return {"class": pipeline, "served": named, "how": how}


def _requirements(spec: AdapterSpec) -> dict[str, Any] | None:
    if not spec.requires:
        return None
    from cachedit_yaml.compiler.versions import unmet_requirements

    unmet = unmet_requirements(spec.requires)
    return {"versions": {n: v.strip() for n, v in spec.requires.items()}, "unmet": unmet}


def _render(found: Mapping[str, Any]) -> Iterator[str]:
    yield found["adapter"] + (f": {found['description']}" if found["description"] else "")
    served, model, requires = found["serves"], found["model"], found["requires"]
    facts = {
        "file": found["hub"] or (display_path(Path(found["source"])) if found["source"] else None),
        "note": found["note"],
        "engine": found["engine"] if len(found["engines"]) > 1 else None,
        "engines": ", ".join(found["engines"]),
        "pipelines": some(found["pipelines"], 4),
        "serves": served
        and f"{served['class']}: {'yes' if served['served'] else 'no'}, {served['how']}",
        "model": model and f"{model['path']}, a {model['pipeline']}",
        "requires": requires and ", ".join(f"{n} {v}" for n, v in requires["versions"].items()),
        "profile": found["profile"] or f"none (it has: {', '.join(found['profiles']) or 'none'})",
        "settings": found.get("measured"),
        "refuses": found["refuses"],
    }
    for name, value in facts.items():
        if value and not (found["refuses"] and name == "profile"):
            yield f"  {name:<11}{value}"
    for problem in requires["unmet"] if requires else ():
        yield f"  warning: {problem}"
    if found["refuses"]:
        return
    for transformer in found["transformers"]:
        yield ""
        yield from _transformer(transformer, found["steps"])
    yield ""
    yield f"step split  {_split(found)}"
    guidance = _GUIDANCE[found["guidance"]["mode"]]
    if "separate_when" in found["guidance"]:
        guidance = f"two forwards a step where {found['guidance']['separate_when']}, else one"
    yield f"guidance    {guidance}"
    for name, value in found["sets"].items():
        yield f"sets        pipeline.{name} = {flow(value)}"
    for note in found["notes"]:
        yield f"note        {note}"


def _transformer(found: Mapping[str, Any], total: int | None) -> Iterator[str]:
    steps = ""
    if found["steps"] is not None:
        steps = f", {count(found['steps'], 'step')}"
    elif total is not None:
        steps = f", as many of the {count(total, 'step')} as the timesteps say"
    lists = found["lists"]
    live = any(item["blocks"] for item in lists)
    remark = ", absent" if found["absent"] else ""
    if found["optional"] and not found["absent"] and not live:
        remark = ", optional"
    classes = f" = {' or '.join(found['class'])}" if found["class"] else ""
    yield f"{found['path']}{classes}{remark}{steps if not found['absent'] else ''}"
    width = max((len(item["path"]) for item in lists), default=0)
    when = None
    for item in lists:
        if item["when"] != when:
            when = item["when"]
            yield f"  {when if when in (None, 'otherwise') else f'when {when}'}:"
        about = [f"{item['pattern']}: {_BLOCKS[item['pattern']]}"]
        if item["blocks"]:
            about.append(f"{item['blocks']} x {item['class']}")
        elif item["class"]:
            about.append(item["class"])
        if item["optional"]:
            about.append("optional")
        if item["follows"]:
            about.append(f"follows {item['follows']}")
        yield f"  {item['path']:<{width}}  {', '.join(about)}"
    # Lists with the same settings are told together.
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for item in lists:
        key = repr([(n, s["value"], s["origin"]) for n, s in item["settings"].items()])
        groups.setdefault(key, []).append(item)
    for group in groups.values():
        names = list(dict.fromkeys(item["path"] for item in group))
        yield f"  settings of {', '.join(names)}" if len(groups) > 1 else "  settings"
        rows = [(name, flow(s["value"]), s["origin"]) for name, s in group[0]["settings"].items()]
        rows.sort(key=lambda row: row[2].startswith("default of "))
        for row, line in zip(rows, table(rows[1:], rows[0]), strict=True):
            yield (Dim if row[2].startswith("default of ") else str)(f"    {line}")
        if group[0]["strip"]:
            yield f"  steps  {group[0]['strip']}"


def _split(found: Mapping[str, Any]) -> str:
    split = found["step_split"]
    if split is None:
        return "none: every transformer runs in every step in which it is called"
    if "boundary" in split:
        boundary = split["boundary"]
        ratio = boundary["ratio"] if found["boundary_ratio"] is None else found["boundary_ratio"]
        if found["model"] is not None and found["boundary_ratio"] is None:
            return f"{boundary['ratio']} is none: all steps belong to {boundary['high']}"
        return (
            f"timesteps from {ratio} of the schedule on up: {boundary['high']}; "
            f"the others: {boundary['low']}"
        )
    return ", ".join(f"{kind} {flow(shares)}" for kind, shares in split.items())
