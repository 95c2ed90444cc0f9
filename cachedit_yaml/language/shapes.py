"""What the dataclasses of the language say about themselves, in a form for walking.

Both the walker and the JSON Schema are derived from here, so they cannot drift apart.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from cachedit_yaml.language import probe_spec, spec
from cachedit_yaml.yaml.diagnostics import one_of

#: What a pattern asks for, in words.
_PATTERNS: Final[Mapping[str, str]] = {
    spec.CLASS_NAME: "a class name such as QwenImagePipeline ('*' matches any part)",
    spec.NAME: "a name of letters, digits, '.', '_' and '-'",
    spec.ATTRIBUTE_PATH: "attributes joined by dots, such as language_model.model",
    spec.CONDITION: "an attribute such as pipeline.is_distilled or "
    "'not transformer.config.guidance_embeds'",
    spec.CACHE_FLAG: "a flag that begins with _cache_dit_",
    spec.VERSION_RANGE: "versions such as '>=1.5' or '>=0.40,<0.43'",
    r"^pipeline(\.[A-Za-z][A-Za-z0-9_]*){1,8}$": "an attribute such as "
    "pipeline.config.boundary_ratio",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "the name of an argument",
    probe_spec.FOLDER: "a folder inside the checkpoint, one or two deep, such as google/t5; or '.'",
    probe_spec.FILE: "a .json or .safetensors file inside the checkpoint, at most one folder deep",
    probe_spec.PART: "a part of the library, a class, or a class by its whole path",
}


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of a mapping of the language.

    Attributes:
        name: as written in YAML.
        attribute: as named in the dataclass.
        members: the types that the value may have, without ``Unset``.
        rules: the metadata of the field.
    """

    name: str
    attribute: str
    members: tuple[Any, ...]
    rules: Mapping[str, Any]

    @property
    def required(self) -> bool:
        return bool(self.rules.get("required"))


@functools.cache
def keys_of(cls: type) -> Mapping[str, Key]:
    """The keys of a dataclass of the language, in order.

    Args:
        cls: a dataclass whose fields were declared with :func:`spec.key`.
    """
    hints = typing.get_type_hints(cls)
    result: dict[str, Key] = {}
    for item in dataclasses.fields(cls):
        if item.metadata.get("internal"):
            continue
        name = item.metadata.get("name", item.name)
        members = members_of(hints[item.name])
        if not item.metadata.get("nullable"):
            # `X | None` of a field means "may be absent", not "may be null".
            members = tuple(m for m in members if m is not type(None))
        result[name] = Key(name, item.name, members, item.metadata)
    return result


@functools.cache
def required_keys(cls: type) -> tuple[Key, ...]:
    """The keys that a mapping of the language needs."""
    return tuple(key for key in keys_of(cls).values() if key.required)


@functools.cache
def kind_of(hint: Any) -> Literal["language", "mapping", "list", "choice", "scalar"]:
    """What a member of a type asks for."""
    if is_language(hint):
        return "language"
    if is_mapping(hint):
        return "mapping"
    origin = typing.get_origin(hint)
    if origin is tuple:
        return "list"
    return "choice" if origin is Literal else "scalar"


def members_of(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself; ``Unset`` is left out."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(m for m in typing.get_args(hint) if m is not spec.Unset)
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


@functools.cache
def compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def pattern_words(pattern: str) -> str:
    """What a pattern asks for, in words."""
    return _PATTERNS.get(pattern, f"text that matches {pattern}")


def describe(members: Sequence[Any], rules: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    words: list[str] = []
    shorthand = rules.get("shorthand")
    for member in members:
        origin = typing.get_origin(member)
        if member is type(None):
            words.append("null")
        elif member is Any:
            words.append("any value")
        elif member is bool:
            words.append("true or false")
        elif member in (int, float):
            words.append(_number(member, rules))
        elif member is str:
            words.append(pattern_words(rules["pattern"]) if "pattern" in rules else "text")
        elif origin is Literal:
            words.append(one_of(typing.get_args(member)))
        elif origin is tuple:
            words.append("a list")
        elif is_language(member) and shorthand:
            choices = describe(keys_of(member)[shorthand].members, {})
            words.append(f"{choices}, or a mapping")
        else:
            words.append("a mapping")
    if int in members and float in members:
        words = [w for w in words if w != _number(float, rules)]
    return " or ".join(dict.fromkeys(words))


def _number(kind: type, rules: Mapping[str, Any]) -> str:
    word = "a whole number" if kind is int else "a number"
    low, high = rules.get("minimum"), rules.get("maximum")
    above, below = rules.get("above"), rules.get("below")
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
