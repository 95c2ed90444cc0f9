"""How messages call keys and values, what they say is expected, and what they advise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from cachedit_yaml.language.schemas import Schema, choices
from cachedit_yaml.yaml.diagnostics import KeyPath, one_of, show

_YAML_1_1_BOOLEANS: Final = frozenset({"yes", "no", "on", "off", "y", "n"})
_BOOLEANS: Final = _YAML_1_1_BOOLEANS | {"true", "false"}
_ALMOST_NUMBER: Final = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?")
_NUMBERS: Final = frozenset({"integer", "number"})
_WORDS: Final = {
    "array": "a list",
    "boolean": "true or false",
    "null": "null",
    "object": "a mapping",
}


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


def describe(schema: Schema) -> str:
    """What a value may be, in words."""
    found = choices(schema)
    words = [_describe(choice) for choice in found]
    if len(words) > 1 and words[1] == _WORDS["object"]:
        # A word that stands for the mapping that has it.
        words[:2] = [f"{words[0]}, or {words[1]}"]
    return " or ".join(dict.fromkeys(words)) or "any value"


def _describe(schema: Schema) -> str:
    if "const" in schema:
        return show(schema["const"])
    if "enum" in schema:
        return one_of(schema["enum"])
    kind = schema.get("type")
    if kind in _NUMBERS:
        return _number("a whole number" if kind == "integer" else "a number", schema)
    if kind == "string":
        return form(schema) if "pattern" in schema else "text"
    return _WORDS.get(str(kind), "any value")


def form(schema: Schema) -> str:
    """What a pattern asks for. Editors show the same words."""
    said: str = schema.get("patternErrorMessage", f"text that matches {schema['pattern']}")
    return said.removeprefix("expected ")


def _number(word: str, schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"{word} from {low} to {high}"
    parts = []
    if low is not None:
        parts.append(f"of at least {low}")
    if above is not None:
        parts.append(f"above {above}")
    if high is not None:
        parts.append(f"of at most {high}")
    if below is not None:
        parts.append(f"below {below}")
    return f"{word} {' and '.join(parts)}" if parts else word


def types_of(schema: Schema) -> set[str]:
    """The types that a value may have; those of a choice of words are not among them."""
    return {str(choice["type"]) for choice in choices(schema) if "type" in choice}


def as_written(wanted: set[str], value: object) -> str | None:
    """A text that is a number or a boolean, as YAML 1.2 writes it."""
    if not isinstance(value, str):
        return None
    folded = value.casefold()
    if "boolean" in wanted and folded in _BOOLEANS:
        return "true" if folded in ("yes", "on", "y", "true") else "false"
    if wanted & _NUMBERS and _ALMOST_NUMBER.fullmatch(value):
        return value.replace("_", "")
    return None


def type_hint(wanted: set[str], value: object) -> str | None:
    """What to write instead of a value of the wrong type."""
    if value is None:
        return "give one, or remove the key"
    if isinstance(value, str):
        if "boolean" in wanted and value.casefold() in _BOOLEANS:
            return f"{value} is text in YAML 1.2; write true or false without quotes"
        if wanted & _NUMBERS and _ALMOST_NUMBER.fullmatch(value):
            extra = ", and without '_'" if "_" in value else ""
            return f"write {value.replace('_', '')} without quotes{extra}"
        if "array" in wanted:
            return f"write [{value}]"
    if isinstance(value, (bool, int, float)):
        if "string" in wanted:
            return f'write "{show(value)}" in quotes if it is meant as text'
        if "array" in wanted:
            return f"write [{show(value)}]"
    if isinstance(value, (list, tuple)) and "object" in wanted:
        return "write 'key: value' lines without dashes"
    return None
