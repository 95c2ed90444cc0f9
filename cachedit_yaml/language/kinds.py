"""Which kind of value stands there, as JSON Schema divides them."""

from __future__ import annotations

from collections.abc import Mapping

from cachedit_yaml.language.schemas import Schema
from cachedit_yaml.language.wording import types_of


def fits(choice: Schema, value: object) -> bool:
    """Whether a value is of the kind that one choice is about."""
    if "enum" in choice:
        return isinstance(value, str) and all(isinstance(item, str) for item in choice["enum"])
    return choice.get("type") in _types(value)


def _types(value: object) -> tuple[str, ...]:
    """What JSON Schema calls the type of a value."""
    if value is None:
        return ("null",)
    if isinstance(value, bool):
        return ("boolean",)
    if isinstance(value, (int, float)):
        return ("integer", "number")
    if isinstance(value, str):
        return ("string",)
    return ("object",) if isinstance(value, Mapping) else ("array",)


def is_number_of(schema: Schema, value: object) -> bool:
    """Whether a number is of the right type, and too large, infinite or none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    wanted = types_of(schema)
    whole = isinstance(value, int) or value.is_integer()
    return "number" in wanted or ("integer" in wanted and whole)
