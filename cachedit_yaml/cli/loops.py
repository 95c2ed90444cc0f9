"""What ``check --explain`` prints: the loops over the block lists, read off the source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cachedit_yaml.cli.output import print_json, say
from cachedit_yaml.language.spec import AdapterSpec


def print_loops(specs: Sequence[AdapterSpec], pipelines: Sequence[str], output: str) -> bool:
    """Print what the transformers' loops do besides calling the block.

    Args:
        specs: the adapters.
        pipelines: only these pipeline classes; default: all.
        output: ``human`` or ``json``.

    Returns:
        Whether anything could be looked at.
    """
    rows = [row for spec in specs for row in _loops(spec, pipelines)]
    if output == "json":
        print_json({"version": 1, "loops": rows})
    else:
        for row in rows:
            say(*_text(row))
    return bool(rows)


def _loops(spec: AdapterSpec, pipelines: Sequence[str]) -> Iterator[dict[str, Any]]:
    import cachedit_yaml
    from cachedit_yaml.compiler.loops import inspect_loop
    from cachedit_yaml.engines import find_engine
    from cachedit_yaml.errors import CacheditYamlError
    from cachedit_yaml.probe.classes import ProbeError
    from cachedit_yaml.probe.recipe import recipes

    seen: set[tuple[str, str]] = set()
    for recipe in recipes(spec):
        if pipelines and recipe.pipeline not in pipelines:
            continue
        try:
            plan = cachedit_yaml.compile_adapter(
                spec, find_engine(recipe.engine).build(spec, recipe).target
            )
        except (ProbeError, CacheditYamlError):
            continue  # `check` says why
        for transformer, blocks in plan.block_lists:
            cls = type(transformer.module).__name__
            if (cls, blocks.path) in seen:
                continue
            seen.add((cls, blocks.path))
            report = inspect_loop(transformer.module, blocks.path)
            yield {
                "adapter": spec.name,
                "transformer": cls,
                "list": blocks.path,
                "block": type(blocks.blocks[0]).__name__,
                "pattern": blocks.pattern.name,
                "found": report.found,
                "always": list(report.always),
                "arguments": list(report.arguments),
                "keywords": sorted(report.keywords),
            }


def _text(row: dict[str, Any]) -> Iterator[str]:
    yield f"{row['adapter']}: {row['transformer']}.{row['list']} ({row['block']}, {row['pattern']})"
    if not row["found"]:
        yield "  the loop cannot be read from the source of forward"
        return
    keywords = ", ".join(row["keywords"]) or "none"
    yield f"  keyword arguments of the block: {keywords}"
    for statement in row["always"]:
        yield f"  also does in every round: {statement}"
    if row["arguments"]:
        yield f"  more where these are given: {', '.join(row['arguments'])}"
    if not row["always"] and not row["arguments"]:
        yield "  the loop does nothing but call the block"
