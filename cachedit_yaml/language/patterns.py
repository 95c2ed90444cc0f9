"""Names with ``*``: what they match."""

from __future__ import annotations

from collections.abc import Iterable


def fits(pattern: str, name: str) -> bool:
    """Whether a pattern with ``*`` (any text, also none) matches a whole name.

    The text between two stars is taken where it is met first, without ever going back: a pattern
    of many stars costs no more than the name's length for each of its parts.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    *middle, last = rest
    if not name.startswith(first) or len(pattern) - len(rest) > len(name):
        return False
    start = len(first)
    for part in filter(None, middle):  # a run of stars is one
        found = name.find(part, start)
        if found < 0:
            return False
        start = found + len(part)
    return len(name) - len(last) >= start and name.endswith(last)


def fits_one(patterns: Iterable[str], names: Iterable[str]) -> bool:
    """Whether one of the patterns matches one of the names (a class and its bases, say)."""
    names = tuple(names)
    return any(fits(pattern, name) for pattern in patterns for name in names)


def covered(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns matches everything that a name (or pattern) matches.

    A ``*`` in the name is taken as a character that only a ``*`` matches, which is right but for
    patterns such as ``**``.
    """
    return fits_one(patterns, (name,))


def names_of(cls: type) -> list[str]:
    """The names of a class and its bases, in the order of the MRO."""
    return [base.__name__ for base in cls.__mro__ if base is not object]
