"""Scripts that complete the command in a shell: options, files, names of adapters and profiles."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, Final

from cachedit_yaml.language.defaults import defaults_for

_NAMES: Final = "cachedit-yaml list --format names 2>/dev/null"
#: Functions that the scripts call, by shell.
_FUNCTIONS: Final = {
    "bash": f"""
_cachedit_yaml_adapters() {{
  compgen -W "$({_NAMES})" -- "$1"
  compgen -f -- "$1"
}}
_cachedit_yaml_profiles() {{
  compgen -W "PROFILES" -- "$1"
}}
""",
    "zsh": f"""
_cachedit_yaml_adapters() {{
  local -a names
  names=(${{(f)"$({_NAMES})"}})
  compadd -a names
  _files
}}
""",
}
_ADAPTERS: Final = {
    "bash": "_cachedit_yaml_adapters",
    "zsh": "_cachedit_yaml_adapters",
    "tcsh": "`cachedit-yaml list --format names`",
}


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for one shell.

    Args:
        parser: the command's, with the options of its subcommands.
        shell: bash, zsh or tcsh.

    Raises:
        ImportError: shtab is not installed.
    """
    import shtab

    profiles = " ".join((defaults_for("image", "diffusers").data or {}).get("profiles", ()))
    words = {"bash": "_cachedit_yaml_profiles", "zsh": f"({profiles})", "tcsh": f"({profiles})"}
    for action in _actions(parser):
        said = set(str(action.metavar or "").split("_"))
        complete = None
        if "ADAPTER" in said:
            complete = _ADAPTERS
        elif {"PATH", "FILE", "DIR"} & said:
            complete = shtab.FILE
        elif "--profile" in action.option_strings:
            complete = words
        if complete is not None:
            action.complete = complete  # type: ignore[attr-defined]
    functions = {name: text.replace("PROFILES", profiles) for name, text in _FUNCTIONS.items()}
    return str(shtab.complete(parser, shell, preamble=functions))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        choices: Any = action.choices
        if isinstance(choices, dict):
            for inner in choices.values():
                yield from _actions(inner)
        else:
            yield action
