"""What an expression may be.

Only what is understood is said: wherever something else may come in, :data:`UNKNOWN` is among the
values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from cachedit_yaml.rules.sources.code import Class, Definition


@dataclass(frozen=True)
class Instance:
    """An object of a class."""

    cls: Class


@dataclass(frozen=True)
class Reference:
    """A class itself, or a function."""

    to: Class | Definition


@dataclass(frozen=True)
class Items:
    """A list of objects.

    Attributes:
        values: what its items may be.
        modules: whether it is a ``torch.nn.ModuleList``.
    """

    values: frozenset[Value]
    modules: bool


@dataclass(frozen=True)
class Other:
    """An object of a class that is not read: a layer of torch's, a number.

    Attributes:
        name: the class, dotted where it is imported.
    """

    name: str


#: What an expression may be. NONE and UNKNOWN are of the last kind.
Value: TypeAlias = Instance | Reference | Items | Other
Values: TypeAlias = frozenset[Value]
NONE: Final = Other("None")
UNKNOWN: Final = Other("?")
ANYTHING: Final[Values] = frozenset({UNKNOWN})


def listed(values: Values) -> Values:
    """A plain list of such items."""
    return frozenset({Items(values, False)})


def items_of(values: Values) -> Values:
    """What a list may hold."""
    found: set[Value] = set()
    for item in values:
        found |= item.values if isinstance(item, Items) else ANYTHING
    return frozenset(found)
