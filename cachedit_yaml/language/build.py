"""From plain data that passed its schema to the dataclasses of the language, and back."""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from typing import Any, TypeAlias, TypeVar

from cachedit_yaml.language.keys import UNSET
from cachedit_yaml.language.shapes import is_language, is_mapping, keys_of, members_of
from cachedit_yaml.yaml.diagnostics import KeyPath

T = TypeVar("T")
#: Makes a value; adds to a list where something is missing in it.
_Maker: TypeAlias = Callable[[Any, KeyPath, list[KeyPath]], Any]


def build(cls: type[T], data: Mapping[str, Any]) -> tuple[T, list[KeyPath]]:
    """Build a dataclass of the language.

    Args:
        cls: the dataclass.
        data: plain data; each part of it passed its schema, but a part that was laid over another
            may lack what only the other one had.

    Returns:
        The object, and the keys that are missing or have no value. With such keys the object must
        not be used.
    """
    missing: list[KeyPath] = []
    return _object(cls, data, (), missing), missing


def _object(cls: type, data: Any, path: KeyPath, missing: list[KeyPath]) -> Any:
    if isinstance(data, str):
        data = {cls.SHORTHAND: data}  # type: ignore[attr-defined]
    values: dict[str, Any] = {}
    keys = _makers(cls)
    for name, value in data.items():
        attribute, maker, nullable, _ = keys[name]
        if value is None and not nullable:
            missing.append((*path, name))
        elif value is None or maker is None:
            values[attribute] = value
        else:
            values[attribute] = maker(value, (*path, name), missing)
    for name, (attribute, _, _, needed) in keys.items():
        if needed and attribute not in values:
            values[attribute] = None
            if name not in data:
                missing.append((*path, name))
    return cls(**values)


@functools.cache
def _makers(cls: type) -> Mapping[str, tuple[str, _Maker | None, bool, bool]]:
    """Attribute, maker, whether null is a value and whether the key is needed, for each key."""
    return {
        key.name: (key.attribute, _maker(key.members), key.nullable, key.default is MISSING)
        for key in keys_of(cls).values()
    }


def _maker(members: tuple[Any, ...]) -> _Maker | None:
    """What makes a value of a union of types; None where the value is kept as it is."""
    for member in members:
        if is_language(member):
            return functools.partial(_object, member)
        if is_mapping(member):
            return functools.partial(_mapping, members_of(typing.get_args(member)[1]))
        if typing.get_origin(member) is tuple:
            return functools.partial(_tuple, _maker(members_of(typing.get_args(member)[0])))
    if (float in members) != (int in members):
        return functools.partial(_number, float if float in members else int)
    return None


def _mapping(
    members: tuple[Any, ...], data: Mapping[str, Any], path: KeyPath, missing: list[KeyPath]
) -> dict[str, Any]:
    maker = _maker_of_items(members)
    nullable = type(None) in members or Any in members
    missing += [(*path, name) for name, value in data.items() if value is None and not nullable]
    if maker is None:
        return dict(data)
    return {
        name: None if value is None else maker(value, (*path, name), missing)
        for name, value in data.items()
    }


_maker_of_items = functools.cache(_maker)


def _tuple(
    maker: _Maker | None, data: Any, path: KeyPath, missing: list[KeyPath]
) -> tuple[Any, ...]:
    if maker is None:
        return tuple(data)
    return tuple(maker(item, (*path, index), missing) for index, item in enumerate(data))


def _number(kind: type, value: Any, path: KeyPath, missing: list[KeyPath]) -> Any:
    return kind(value) if isinstance(value, (int, float)) else value


def to_data(value: Any) -> Any:
    """Write an object of the language as plain data.

    What has its default value is left out, and so are the source and the lines of an adapter.

    Args:
        value: a dataclass of the language, or a value within one.

    Returns:
        Dicts, lists and scalars from which :func:`build` makes an equal object.
    """
    cls: type = type(value)
    if is_language(cls):
        result: dict[str, Any] = {}
        for key in keys_of(cls).values():
            found = getattr(value, key.attribute)
            if found is not UNSET and found != key.default:
                result[key.name] = to_data(found)
        return result
    if isinstance(value, Mapping):
        return {name: to_data(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [to_data(item) for item in value]
    return value
