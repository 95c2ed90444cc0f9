"""A parser of arguments that says what was meant."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from cachedit_yaml.yaml.diagnostics import did_you_mean, plain


class Parser(argparse.ArgumentParser):
    """Says wrong use in two lines instead of the whole usage, with the nearest right word."""

    def error(self, message: str) -> NoReturn:
        self.exit(
            2,  # wrong use
            plain(f"{self.prog}: error: {message}{self._hint(message)}")
            + f"\nTry '{self.prog} --help'.\n",
        )

    def _hint(self, message: str) -> str:
        hint = None
        if found := re.match(r"unrecognized arguments: (--[\w-]+)", message):
            inner = [item.choices for item in self._actions if isinstance(item.choices, dict)]
            parsers = [self, *(parser for choices in inner for parser in choices.values())]
            hint = did_you_mean(found[1], [x for p in parsers for x in p._option_string_actions])
        elif found := re.match(r"argument (\S+): invalid choice: '(.*)' \(choose from", message):
            action = self._option_string_actions.get(found[1].split("/")[-1])
            hint = did_you_mean(found[2], action.choices or () if action is not None else ())
        return f"; {hint}" if hint else ""
