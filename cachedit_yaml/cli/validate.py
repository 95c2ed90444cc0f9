"""``cachedit-yaml validate``: check adapter files and the cache part of engine configs."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from pathlib import Path
from typing import Final, TextIO

from cachedit_yaml.cli.arguments import add_adapters, add_import
from cachedit_yaml.cli.named import STDIN
from cachedit_yaml.cli.output import check_file, quiet_libraries, say, write_file
from cachedit_yaml.cli.validation.formats import human
from cachedit_yaml.cli.validation.report import Report
from cachedit_yaml.cli.validation.run import validate, validate_and_fix
from cachedit_yaml.errors import ConfigError
from cachedit_yaml.rules.catalogue import RULES, Rule, find_rule
from cachedit_yaml.yaml.diagnostics import did_you_mean

DESCRIPTION: Final = (
    "Check adapter files: syntax, keys, values, what they mean together, and claims on the same "
    "class. Also checks the cache part of the engines' configs, which it knows by their content."
)
EPILOG: Final = """\
examples:
  cachedit-yaml validate                      all adapters that can be found
  cachedit-yaml validate adapters/ my.yaml    a folder with its subfolders, and a file
  cachedit-yaml validate flux                 one by its name
  cachedit-yaml validate --fix my.yaml        mend what is safe, keep everything else
  cachedit-yaml validate --deep my.yaml       look at the classes too (imports torch)
  CACHEDIT_YAML_SOURCES=../their-engine cachedit-yaml validate --deep my.yaml
                                              also at those of an engine that is not installed
  cachedit-yaml validate --explain CY205      what a finding means
  cachedit-yaml validate - < my.yaml          from another program
  cachedit-yaml validate --format sarif --output report.sarif adapters/

To silence a warning, write behind the line:  # cachedit-yaml: ignore[CY205] the reason
Under GITHUB_ACTIONS findings become annotations as well.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_import(parser)
    add_adapters(parser)
    parser.add_argument(
        "--format",
        choices=("human", "json", "sarif", "github", "junit"),
        help="how to print the findings; default: human",
    )
    parser.add_argument("--output", metavar="FILE", type=Path, help="write them to a file")
    parser.add_argument("--strict", action="store_true", help="treat warnings as errors")
    parser.add_argument(
        "--fix",
        action="store_true",
        help="mend what is safe (spelling, order, the schema line) in the files",
    )
    parser.add_argument(
        "--deep",
        action="store_true",
        help="build diffusers' models without weights, and read the source of the engines' "
        "classes without importing them (needs torch and diffusers)",
    )
    parser.add_argument("--explain", metavar="CODE", help="say what a finding means, and stop")


def run(args: argparse.Namespace) -> int:
    """Check the files.

    Returns:
        0 without errors, 1 with errors, 3 where a file could not be mended.

    Raises:
        ConfigError: there is nothing to check, or what was asked for does not go together.
        ImportError: --deep needs a package that is not installed.
    """
    if args.explain:
        return _explain(args.explain)
    if args.output is not None:
        check_file("--output", args.output)
    if args.deep:
        quiet_libraries()
        importlib.import_module("cachedit_yaml.rules.deep")
    if args.fix and STDIN in args.targets:
        raise ConfigError("--fix changes files, and stdin is none")
    check = validate_and_fix if args.fix else validate
    report = check(args.targets, adapters=args.adapters, deep=args.deep)
    if not report.files:
        raise ConfigError("no adapter files found; name some, or a folder")
    if args.output is not None:
        stream = io.StringIO()
        _write(report, args.format or "human", stream)
        write_file("--output", args.output, stream.getvalue())
        print(human.summary(report))
    else:
        _write(report, args.format, sys.stdout)
    for name, why in report.left.items():
        say(f"{name}: not mended: {why}", stream=sys.stderr)
    if report.left:
        return 3
    found = report.counts
    return 1 if found["error"] or (args.strict and found["warning"]) else 0


def _write(report: Report, form: str | None, stream: TextIO) -> None:
    if form in ("json", "sarif", "github", "junit"):
        # Each format has needs of its own (XML, URLs) that the others do not wait for.
        importlib.import_module(f"cachedit_yaml.cli.validation.formats.{form}_report").write(
            report, stream
        )
        return
    human.write_findings(report, stream)
    if form is None and os.environ.get("GITHUB_ACTIONS") == "true":
        from cachedit_yaml.cli.validation.formats import github_report

        github_report.write(report, stream)
    stream.write(human.summary(report) + "\n")


def _explain(code: str) -> int:
    rule = find_rule(code)
    if rule is None:
        names = [*RULES, *(known.id for known in RULES.values())]
        advice = did_you_mean(code, names) or "see docs/rules.md"
        raise ConfigError(f"there is no rule {code!r}; {advice}")
    print(_described(rule))
    return 0


def _described(rule: Rule) -> str:
    lines = [
        f"{rule.id} {rule.name} ({rule.severity})",
        "",
        rule.title,
        "",
        rule.why,
        "",
        f"What to do: {rule.fix}",
    ]
    for word, example in (("Wrong", rule.bad), ("Right", rule.good)):
        if example:
            lines += ["", f"{word}:", *(f"  {line}" for line in example.splitlines())]
    return "\n".join(lines)
