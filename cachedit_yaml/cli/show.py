"""``cachedit-yaml show``: one adapter, resolved."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cachedit_yaml.cli.arguments import add_engine
from cachedit_yaml.cli.output import flow, print_diagnostics, print_json
from cachedit_yaml.errors import AdapterNotFoundError
from cachedit_yaml.language.build import to_data
from cachedit_yaml.language.spec import AdapterSpec, BlockList, CacheSettings
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.registry.search_path import display_path

_EPILOG = """\
examples:
  cachedit-yaml show flux                  by the adapter's name
  cachedit-yaml show QwenImagePipeline     by a pipeline's class
  cachedit-yaml show my.yaml               by the file
  cachedit-yaml show flux --format json    with everything it extends, as data
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "show",
        help="show one adapter, resolved",
        epilog=_EPILOG,
        description="Show an adapter's file and what it comes to with everything it extends.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "name",
        metavar="NAME",
        help="an adapter's name, a file, or the class of a pipeline or transformer",
    )
    add_engine(parser, help="as this engine sees it; default: diffusers, or the first it serves")
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to print the adapter"
    )


def run(args: argparse.Namespace) -> int:
    """Print the adapter.

    Returns:
        0; errors are raised.
    """
    registry = Registry.load(args.adapters)
    spec, note = _find(registry, args.name, args.engine)
    if args.format == "json":
        print_json({"source": str(spec.source) if spec.source else None, **to_data(spec)})
        return 0
    print("\n".join(_describe(spec, note)))
    print_diagnostics(registry.source_problems)
    if spec.source is not None:
        print(f"\n--- {display_path(spec.source)}")
        print(Path(spec.source).read_text(encoding="utf-8-sig").rstrip())
    return 0


def _find(registry: Registry, name: str, engine: str | None) -> tuple[AdapterSpec, str | None]:
    try:
        return registry.get(name, engine), None
    except AdapterNotFoundError as error:
        # Most classes have a capital, adapters do not: say what the other one was about.
        failure = error
        for match in (registry.match_pipeline, registry.match_transformer):
            try:
                found = match(name, engine)
            except AdapterNotFoundError as other:
                if match == registry.match_pipeline and name[:1].isupper():
                    failure = other
                continue
            return found.spec, found.note
        raise failure from None


def _describe(spec: AdapterSpec, note: str | None) -> Iterator[str]:
    yield spec.name + (f": {spec.description}" if spec.description else "")
    facts = {
        "note": note,
        "file": display_path(spec.source) if spec.source else None,
        "extends": spec.extends,
        "engine": spec.engine if spec.engine != "diffusers" else None,
        "pipelines": ", ".join(spec.pipelines),
        "models": ", ".join(spec.models),
        "requires": ", ".join(f"{n} {v.strip()}" for n, v in (spec.requires or {}).items()),
        "refuses": spec.refuse,
    }
    for name, value in facts.items():
        if value:
            yield f"  {name + ':':<12}{value}"
    if spec.transformers:
        yield "transformers:"
    for name, transformer in spec.transformers.items():
        classes = ", ".join(transformer.transformer_class or ())
        optional = " (optional)" if transformer.optional else ""
        yield f"  {name}{f' = {classes}' if classes else ''}{optional}{_of(transformer.params)}"
        for variant in transformer.variants or ():
            by = [*(variant.transformer_class or ()), *([variant.when] if variant.when else [])]
            yield f"    when {' or '.join(by)}:"
            yield from _lists(variant.blocks, "      ")
        yield from _lists(transformer.blocks or {}, "    ")
    if spec.scheduler is not None:
        yield f"steps: those of {spec.scheduler}"
    if spec.step_split is not None:
        yield f"steps divide by: {flow(to_data(spec.step_split))}"
    if to_data(spec.guidance):
        yield f"guidance: {flow(to_data(spec.guidance))}"
    for title, settings in _layers(spec):
        if settings:
            yield f"{title}: {flow(settings)}"


def _layers(spec: AdapterSpec) -> Iterator[tuple[str, Any]]:
    yield "cache", to_data(spec.cache)
    for step in spec.steps:
        data = to_data(step)
        yield f"cache up to {data.pop('max_steps')} steps", data
    for name, profile in spec.profiles.items():
        yield f"profile {name}", to_data(profile)
    yield "sets on the pipeline", dict(spec.set or {})


def _lists(blocks: Mapping[str, BlockList], indent: str) -> Iterator[str]:
    for name, content in blocks.items():
        optional = " (optional)" if content.optional else ""
        yield f"{indent}{name}: {content.pattern}{optional}{_of(content.params)}"


def _of(params: CacheSettings | None) -> str:
    return f"  {flow(to_data(params))}" if params is not None else ""
