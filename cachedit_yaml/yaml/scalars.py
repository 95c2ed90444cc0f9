"""Plain scalars by the YAML 1.2 core schema.

YAML 1.1 reads ``no``, ``on``, ``1_000``, ``010`` and ``1:30`` as something else than they look
like. Here they are text, and the message where a number or a boolean is needed says so.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

Scalar: TypeAlias = str | int | float | bool | None

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_INTEGER: Final = re.compile(r"[-+]?[0-9]+")
_BASED: Final = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITY: Final = re.compile(r"([-+]?)\.(?:inf|Inf|INF)")
_NAN: Final = frozenset({".nan", ".NaN", ".NAN"})
#: No setting needs more digits, and int() of thousands of them raises ValueError.
_MAX_DIGITS: Final = 100


def resolve_scalar(text: str) -> Scalar:
    """Turn the text of a plain scalar into the value that it stands for.

    Args:
        text: the scalar as it stands in the file, without quotes.

    Returns:
        A value of the YAML 1.2 core schema; numbers beyond 100 digits remain text.
    """
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    # Nearly every scalar begins with a letter: spare those the patterns.
    if text[0] not in "+-.0123456789" or len(text) > _MAX_DIGITS:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    infinity = _INFINITY.fullmatch(text)
    if infinity:
        return float(f"{infinity[1]}inf")
    return float("nan") if text in _NAN else text
