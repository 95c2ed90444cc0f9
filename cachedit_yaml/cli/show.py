"""``cachedit-yaml show``: one adapter, resolved."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any, Final

from cachedit_yaml.cli.arguments import add_adapter, add_engine, add_format
from cachedit_yaml.cli.facts import measured_settings
from cachedit_yaml.cli.named import Named, find_one
from cachedit_yaml.cli.output import flow, print_diagnostics, print_json, say
from cachedit_yaml.language.build import to_data
from cachedit_yaml.language.spec import AdapterSpec, BlockList, CacheSettings
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.yaml.diagnostics import split_lines

DESCRIPTION: Final = (
    "Show an adapter's file and what it comes to with everything it extends, in one engine."
)
EPILOG: Final = """\
examples:
  cachedit-yaml show flux                  by the adapter's name
  cachedit-yaml show QwenImagePipeline     by a pipeline's class
  cachedit-yaml show my.yaml               by the file
  cachedit-yaml show flux --format json    with everything it extends, as data
  cachedit-yaml show flux --engine NAME    as one engine sees it
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_adapter(parser)
    add_engine(parser, help="as this engine sees it; default: diffusers, or the first it serves")
    add_format(parser, "the adapter")


def run(args: argparse.Namespace) -> int:
    """Print the adapter.

    Returns:
        0; errors are raised.
    """
    registry = Registry.load(args.adapters)
    named = find_one(registry, args.adapter, args.engine)
    spec = named.spec
    if args.format == "json":
        source = str(spec.source) if spec.source else None
        print_json({"source": source, "engine": spec.engine, **to_data(spec)})
        return 0
    say(*_describe(named, spec))
    print_diagnostics(registry.source_problems)
    say("", f"--- {named.entry.shown}", *split_lines(named.entry.text.rstrip()))
    return 0


def _describe(named: Named, spec: AdapterSpec) -> Iterator[str]:
    yield spec.name + (f": {spec.description}" if spec.description else "")
    facts = {
        "note": named.note,
        "file": named.entry.shown,
        "extends": spec.extends,
        "engines": ", ".join(named.entry.engines),
        "shown for": spec.engine if len(named.entry.engines) > 1 else None,
        "pipelines": ", ".join(spec.pipelines),
        "models": ", ".join(spec.models),
        "requires": ", ".join(f"{n} {v.strip()}" for n, v in (spec.requires or {}).items()),
        "refuses": spec.refuse,
        "measured": ", ".join(name for name, _ in measured_settings(spec)),
    }
    for name, value in facts.items():
        if value:
            yield f"  {name + ':':<12}{value}"
    if spec.transformers:
        yield "transformers:"
    for name, transformer in spec.transformers.items():
        classes = ", ".join(transformer.transformer_class or ())
        optional = " (optional)" if transformer.optional else ""
        steps = f", steps of {transformer.scheduler}" if transformer.scheduler else ""
        shown = f"{name}{f' = {classes}' if classes else ''}{optional}{steps}"
        yield f"  {shown}{_of(transformer.params)}"
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
        returns = f", returns {flow(to_data(content.returns))}" if content.returns else ""
        follows = f", follows {content.follows}" if content.follows else ""
        yield f"{indent}{name}: {content.pattern}{optional}{returns}{follows}{_of(content.params)}"


def _of(params: CacheSettings | None) -> str:
    return f"  {flow(to_data(params))}" if params is not None else ""
