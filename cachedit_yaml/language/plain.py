"""Turn the dataclasses of the language back into plain data, as YAML would say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from cachedit_yaml.language.shapes import is_language, keys_of
from cachedit_yaml.language.spec import UNSET


def to_data(value: Any) -> Any:
    """Write an object of the language as plain data.

    What has its default value is left out, and so are the source and the lines of an adapter.

    Args:
        value: a dataclass of the language, or a value within one.

    Returns:
        Dicts, lists and scalars that :func:`~cachedit_yaml.language.structure.structure` turns
        into an equal object.
    """
    cls: type = type(value)
    if is_language(cls):
        defaults = {item.name: _default(item) for item in fields(value)}
        result: dict[str, Any] = {}
        for key in keys_of(cls).values():
            found = getattr(value, key.attribute)
            if found is not UNSET and (key.required or found != defaults[key.attribute]):
                result[key.name] = to_data(found)
        return result
    if isinstance(value, Mapping):
        return {name: to_data(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [to_data(item) for item in value]
    return value


def _default(item: Any) -> Any:
    if item.default is not MISSING:
        return item.default
    return item.default_factory() if item.default_factory is not MISSING else MISSING
