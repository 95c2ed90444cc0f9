"""``cachedit-yaml schema``: the JSON Schema of adapter files, for editors."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from cachedit_yaml.language.json_schema import schema_path, text

DESCRIPTION: Final = "Print the JSON Schema of adapter files."
EPILOG: Final = """\
examples:
  cachedit-yaml schema > adapter.v1.schema.json
  cachedit-yaml schema --path

An editor with a YAML language server completes and checks an adapter that begins with
  # yaml-language-server: $schema=PATH
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--path", action="store_true", help="print where the file lies instead")


def run(args: argparse.Namespace) -> int:
    """Print the schema or its path.

    Returns:
        0, or 3 when the file is asked for and was not installed.
    """
    if not args.path:
        sys.stdout.write(text())
        return 0
    path = schema_path()
    if path is None:
        print(
            "cachedit-yaml schema: error: the file is not installed; print it without --path",
            file=sys.stderr,
        )
        return 3
    print(path)
    return 0
