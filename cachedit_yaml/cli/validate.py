"""``cachedit-yaml validate``: check adapter files."""

from __future__ import annotations

import argparse
import glob
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cachedit_yaml.cli.output import count, print_diagnostics, print_json
from cachedit_yaml.language.diagnostics import Diagnostic
from cachedit_yaml.language.load import check_document
from cachedit_yaml.language.reader import MAX_BYTES, read_text
from cachedit_yaml.registry import Registry
from cachedit_yaml.search_path import Source, find_sources, yaml_files

_EPILOG = """\
examples:
  cachedit-yaml validate                      all adapters that can be found
  cachedit-yaml validate adapters/ my.yaml    a folder with its subfolders, and a file
  cachedit-yaml validate - < my.yaml          from another program
  cachedit-yaml validate --format json adapters/
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "validate",
        help="check adapter files",
        epilog=_EPILOG,
        description="Check adapter files: syntax, keys, values, and claims on the same class.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="files, folders, patterns such as 'adapters/*.yaml', or - for stdin; "
        "default: all adapters that can be found",
    )
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to print the findings"
    )
    parser.add_argument("--strict", action="store_true", help="treat warnings as errors")


def run(args: argparse.Namespace) -> int:
    """Check the files.

    Returns:
        0 without errors, 1 with errors, 2 when there is nothing to check.
    """
    paths: list[Path] = []
    for pattern in args.paths:
        if pattern == "-":
            continue
        found = _expand(pattern)
        if not found:
            return _wrong_use(f"no such file or folder: {pattern}")
        paths += found
    for path in paths:
        if path.is_dir() and not yaml_files(path):
            return _wrong_use(f"no adapter files (*.yaml, *.yml) in {path}")
    sources, problems = find_sources(args.adapters)
    first = len(sources)
    sources += [Source("argument", 1_000_000 + i, p, "argument") for i, p in enumerate(paths)]
    registry = Registry(sources, problems)
    chosen = sources[first:] if args.paths else sources
    entries = [entry for entry in registry.entries if entry.source in chosen]
    results: list[tuple[str, list[Diagnostic]]] = []
    texts: dict[str, str] = {}
    for entry in entries:
        results.append((entry.shown, list(entry.diagnostics)))
        texts.update(entry.sources)
    by_name = dict(results)
    for conflict in registry.conflicts(entries):
        where = conflict.span.path if conflict.span is not None else ""
        by_name.get(where, problems).append(conflict)
    if "-" in args.paths:
        content = sys.stdin.buffer.read(MAX_BYTES + 1)
        document, reading = read_text(content, "<stdin>")
        _, found_in_stdin, merged = check_document(document, reading, resolve=registry.resolve)
        results.append(("<stdin>", found_in_stdin))
        texts.update(merged.sources)
    if not results:
        return _wrong_use("no adapter files found; name some, or a folder")
    everything = problems + [item for _, found in results for item in found]
    errors = sum(item.severity == "error" for item in everything)
    warnings = len(everything) - errors
    if args.format == "json":
        print_json(
            {
                "files": [
                    {"path": name, "diagnostics": [item.as_dict() for item in found]}
                    for name, found in results
                ],
                "problems": [item.as_dict() for item in problems],
                "summary": {"files": len(results), "errors": errors, "warnings": warnings},
            }
        )
    else:
        print_diagnostics(everything, texts)
        print(_summary(len(results), errors, warnings))
    return 1 if errors or (args.strict and warnings) else 0


def _expand(pattern: str) -> Sequence[Path]:
    path = Path(pattern).expanduser()
    # A file whose name holds a bracket is that file, not a pattern.
    if path.exists() or path.is_symlink():
        return [path]
    if glob.has_magic(pattern):
        return [Path(found) for found in sorted(glob.glob(pattern, recursive=True))]
    return []


def _summary(files: int, errors: int, warnings: int) -> str:
    parts = [count(files, "file")]
    if errors or not warnings:
        parts.append(count(errors, "error") if errors else "no problems")
    if warnings:
        parts.append(count(warnings, "warning"))
    return ", ".join(parts)


def _wrong_use(message: str) -> int:
    print(f"cachedit-yaml validate: error: {message}", file=sys.stderr)
    return 2
