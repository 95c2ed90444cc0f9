"""jsonschema's checker for draft 2020-12, as fast as every file and every start needs it.

What is checked, and how, is jsonschema's own. Changed is what its documentation lets one change:
which Python values count as which type, and that a pattern means the whole text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError

from cachedit_yaml.language.schemas import Schema

#: Larger numbers are no settings, and cannot all be turned into a float.
_LARGEST: Final = 1e300


def iter_errors(schema: Schema, data: object) -> Iterator[ValidationError]:
    """What is wrong with plain data, by a schema without references that is never changed."""
    if id(schema) not in _KNOWN:
        _KNOWN[id(schema)] = _Checker(schema)
    found: Iterator[ValidationError] = _KNOWN[id(schema)].iter_errors(data)
    return found


#: A validator for each part of a schema, by the part's address; it holds the part.
_KNOWN: Final[dict[int, Any]] = {}


def _descend(
    self: Any,
    instance: object,
    schema: Any,
    path: str | int | None = None,
    schema_path: str | int | None = None,
    resolver: object = None,
) -> Iterator[ValidationError]:
    """As jsonschema's own, but with one validator for each part of a schema, not for each value."""
    known = _KNOWN.get(id(schema))
    if known is None:
        known = _KNOWN[id(schema)] = self.evolve(schema=schema)
    for error in known.iter_errors(instance):
        if path is not None:
            error.path.appendleft(path)
        if schema_path is not None:
            error.schema_path.appendleft(schema_path)
        yield error


def _is_number(_: object, value: object) -> bool:
    # JSON has no infinity, and what is no number at all compares with nothing.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= _LARGEST


def _is_integer(_: object, value: object) -> bool:
    return _is_number(_, value) and (isinstance(value, int) or value.is_integer())  # type: ignore[attr-defined]


def _pattern(
    validator: Any, pattern: str, instance: object, schema: Schema
) -> Iterator[ValidationError]:
    # `$` of Python also matches before a line break at the end; that of JSON Schema does not.
    if not isinstance(instance, str) or len(instance) > schema.get("maxLength", len(instance)):
        return  # that it is too long says enough
    if not _compiled(pattern).fullmatch(instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


_Checker: Final[Any] = validators.extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {"pattern": _pattern},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "array": lambda _, value: isinstance(value, (list, tuple)),
            "integer": _is_integer,
            "number": _is_number,
            "object": lambda _, value: type(value) is dict or isinstance(value, Mapping),
        }
    ),
)
_Checker.descend = _descend
