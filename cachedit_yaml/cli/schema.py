"""``cachedit-yaml schema``: the JSON Schemas of what is written by hand, for editors."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from cachedit_yaml.language.schemas import KINDS, schema_path

DESCRIPTION: Final = "Print the JSON Schema of adapter files, or of the files beside them."
EPILOG: Final = """\
examples:
  cachedit-yaml schema > adapter.v1.schema.json
  cachedit-yaml schema --path

An editor with a YAML language server completes and checks an adapter that begins with
  # yaml-language-server: $schema=PATH
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--for",
        dest="kind",
        choices=list(KINDS),
        default="adapter",
        help="an adapter (default), defaults.yaml, or a file in probes/",
    )
    parser.add_argument("--path", action="store_true", help="print where the file lies instead")


def run(args: argparse.Namespace) -> int:
    """Print the schema or its path."""
    path = schema_path(args.kind)
    sys.stdout.write(f"{path}\n" if args.path else path.read_text(encoding="utf-8"))
    return 0
