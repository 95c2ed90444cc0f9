"""How messages call keys and values, and what they advise for a value of the wrong type."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cachedit_yaml.language.shapes import is_language, is_mapping
from cachedit_yaml.yaml.diagnostics import KeyPath, one_of, show

_YAML_1_1_BOOLEANS: Final = frozenset({"yes", "no", "on", "off", "y", "n"})
_ALMOST_NUMBER: Final = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?")


def known(names: Sequence[str]) -> str:
    """The keys that there are, or the first of many."""
    if len(names) <= 10:
        return one_of(names)
    return f"one of {', '.join(names[:8])} and {len(names) - 8} others"


def kind(value: object) -> str:
    """What a value is."""
    if isinstance(value, (bool, Mapping, list, tuple)):
        return show(value)
    if isinstance(value, str):
        return f"the text {show(value)}"
    if isinstance(value, (int, float)):
        return f"the number {show(value)}"
    return f"a Python {type(value).__name__}"


def label(path: KeyPath) -> str:
    """What a key or an item is called."""
    if not path:
        return "the adapter"
    last = path[-1]
    if isinstance(last, int):
        owner = next((step for step in reversed(path) if isinstance(step, str)), "the list")
        return f"item {last + 1} of {owner!r}"
    return repr(last)


def as_written(members: Sequence[Any], value: object) -> str | None:
    """A text that is a number or a boolean, as YAML 1.2 writes it."""
    if not isinstance(value, str):
        return None
    folded = value.casefold()
    if bool in members and folded in _YAML_1_1_BOOLEANS | {"true", "false"}:
        return "true" if folded in ("yes", "on", "y", "true") else "false"
    if (int in members or float in members) and _ALMOST_NUMBER.fullmatch(value):
        return value.replace("_", "")
    return None


def type_hint(members: Sequence[Any], value: object) -> str | None:
    """What to write instead of a value of the wrong type."""
    wants_number = int in members or float in members
    wants_list = any(typing.get_origin(m) is tuple for m in members)
    if isinstance(value, str):
        if bool in members and value.casefold() in _YAML_1_1_BOOLEANS | {"true", "false"}:
            return f"{value} is text in YAML 1.2; write true or false without quotes"
        if wants_number and _ALMOST_NUMBER.fullmatch(value):
            extra = ", and without '_'" if "_" in value else ""
            return f"write {value.replace('_', '')} without quotes{extra}"
        if wants_list:
            return f"write [{value}]"
    if isinstance(value, (bool, int, float)) and not isinstance(value, str):
        if str in members:
            return f'write "{show(value)}" in quotes if it is meant as text'
        if wants_list:
            return f"write [{show(value)}]"
    if isinstance(value, (list, tuple)) and any(is_mapping(m) or is_language(m) for m in members):
        return "write 'key: value' lines without dashes"
    return None
