"""``cachedit-yaml doctor``: what is installed, what serves a pipeline, what to configure."""

from __future__ import annotations

import argparse
import dataclasses
import textwrap
from typing import Final

from cachedit_yaml.cli.arguments import add_engine, add_format, add_import
from cachedit_yaml.cli.diagnosis import Diagnosis, diagnose
from cachedit_yaml.cli.output import count, print_json
from cachedit_yaml.engines import find_engine
from cachedit_yaml.yaml.diagnostics import plain

DESCRIPTION: Final = (
    "Say what is installed and tested, which adapters load, which one serves a "
    "pipeline and why, whether the engine loads this package, and what to configure."
)
EPILOG: Final = """\
examples:
  cachedit-yaml doctor
  cachedit-yaml doctor --pipeline FluxPipeline
  cachedit-yaml doctor --model ./Wan2.2-T2V-A14B-Diffusers --engine NAME
  cachedit-yaml doctor --format json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_import(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--pipeline", metavar="CLASS", help="the class of a pipeline")
    which.add_argument("--model", metavar="DIR", help="the folder of a pipeline")
    add_engine(parser, default="diffusers", help="what runs the pipeline (default: diffusers)")
    add_format(parser, "the findings")


def run(args: argparse.Namespace) -> int:
    """Print what was found.

    Returns:
        0, or 1 when something has to be mended.
    """
    found = diagnose(args.engine, args.pipeline, args.model, args.adapters)
    if args.format == "json":
        print_json(dataclasses.asdict(found))
    else:
        print(render(found), flush=True)
    return 1 if found.problems else 0


def render(found: Diagnosis) -> str:
    """The diagnosis for people."""
    parts = [f"cachedit-yaml {found.itself}, Python {found.python}"]
    lines = [f"{x.name:<12} {x.version or '-':<12} {x.state}" for x in found.packages]
    parts.append(_part("packages", lines))
    parts.append(_part("adapters", [f"{number} {where}" for where, number in found.adapters]))
    choice = found.choice
    if choice is not None:
        lines = []
        if choice.adapter is not None:
            lines.append(f"{choice.adapter} serves it: {choice.why}")
            lines.append(f"file: {choice.file}")
            lines += [f"settings: {choice.settings}"] if choice.settings else []
            lines += [choice.modes] if choice.modes else []
        else:
            lines += choice.why.splitlines()
        lines += [f"not {name}: {why}" for name, why in choice.others]
        parts.append(_part(f"pipeline {choice.pipeline}", lines))
    if found.plugin:
        parts.append(_part("plugin", [found.plugin]))
    if found.snippet:
        title = f"config for {find_engine(found.engine).title}"
        parts.append(_part(title, found.snippet.splitlines()))
    if found.problems:
        lines = [line for text in found.problems for line in f"- {text}".splitlines()]
        parts.append(_part(count(len(found.problems), "problem"), lines))
    return "\n\n".join(parts)


def _part(title: str, lines: list[str]) -> str:
    return f"{plain(title)}\n" + textwrap.indent("\n".join(map(plain, lines or ["none"])), "  ")
