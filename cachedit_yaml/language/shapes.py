"""How the dataclasses of the language hang together: their keys, and what stands below each."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

from cachedit_yaml.language.keys import Unset

_NONE = type(None)


class Key(NamedTuple):
    """One key of a mapping of the language.

    Attributes:
        name: as written in YAML.
        attribute: as named in the dataclass.
        members: the types that the value may have.
        nullable: whether `null` is a value of its own.
        default: what stands for an absent key; ``MISSING`` where it is needed.
    """

    name: str
    attribute: str
    members: tuple[Any, ...]
    nullable: bool
    default: Any


@functools.cache
def keys_of(cls: type) -> Mapping[str, Key]:
    """The keys of a dataclass of the language, in order."""
    hints = typing.get_type_hints(cls)
    result: dict[str, Key] = {}
    for item in dataclasses.fields(cls):
        if not item.compare:
            continue
        # `class` is no name in Python.
        name = "class" if item.name.endswith("_class") else item.name
        found = members_of(hints[item.name])
        # `X | None` means "may be absent"; a setting that is absent is unset.
        nullable = Any in found or (Unset in found and _NONE in found)
        members = tuple(m for m in found if m not in (Unset, _NONE))
        made = item.default_factory
        default = item.default if made is dataclasses.MISSING else made()
        result[name] = Key(name, item.name, members, nullable, default)
    return result


def members_of(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def is_language(hint: Any) -> bool:
    """Whether a type is a mapping of the language rather than a plain one."""
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def is_mapping(hint: Any) -> bool:
    """Whether a type is a mapping with free keys."""
    return isinstance(typing.get_origin(hint), type) and issubclass(
        typing.get_origin(hint), Mapping
    )


def nested(key: Key) -> tuple[type, str] | None:
    """The mapping of the language that a key leads to, and how it is reached.

    Returns:
        The class, and ``""`` (direct), ``"NAME"`` (by name) or ``"[]"`` (in a list); None for
        keys of plain values.
    """
    for member in key.members:
        if is_language(member):
            return member, ""
        for argument in typing.get_args(member):
            for item in members_of(argument):
                if is_language(item):
                    return item, "NAME" if is_mapping(member) else "[]"
    return None
