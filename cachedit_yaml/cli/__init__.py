"""The command ``cachedit-yaml``: one module per subcommand, imported when it is used."""

from __future__ import annotations

from cachedit_yaml.cli.main import main

__all__ = ["main"]
