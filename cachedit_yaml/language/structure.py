"""Turn plain data into the dataclasses of the language, collecting everything that is wrong.

One walker serves YAML documents (with positions) and dicts that a user passes from Python
(without). It knows no key by name: all it knows comes from the fields of the dataclasses.
"""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from cachedit_yaml.language.diagnostics import (
    Diagnostic,
    KeyPath,
    nearest,
    one_of,
    show,
)
from cachedit_yaml.language.document import Document
from cachedit_yaml.language.misplaced import Advice, advise
from cachedit_yaml.language.shapes import (
    compiled,
    describe,
    is_language,
    is_mapping,
    keys_of,
    members_of,
    pattern_words,
)

T = TypeVar("T")

_FAILED: Any = object()
_MOST_HINTS = 50
_YAML_1_1_BOOLEANS = frozenset({"yes", "no", "on", "off", "y", "n"})
_ALMOST_NUMBER = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?")


def structure(
    cls: type[T], data: object, document: Document | None = None, prefix: KeyPath = ()
) -> tuple[T | None, list[Diagnostic]]:
    """Build a dataclass of the language from plain data.

    Args:
        cls: the dataclass.
        data: a mapping, as YAML or Python gives it.
        document: the document that the data comes from, for positions.
        prefix: the keys that lead to `data`.

    Returns:
        The object, or None if there are errors, and all of them.
    """
    walker = _Walker(document, cls)
    result = walker.language(cls, data, prefix)
    failed = result is _FAILED or walker.diagnostics
    return (None if failed else result), walker.diagnostics


class _Walker:
    def __init__(self, document: Document | None, root: type) -> None:
        self.document = document
        self.root = root
        self.diagnostics: list[Diagnostic] = []

    def report(
        self,
        code: str,
        message: str,
        path: KeyPath,
        at_key: bool = False,
        replace: str | None = None,
        **more: Any,
    ) -> Any:
        span = None
        if self.document is not None:
            find = self.document.key_span if at_key else self.document.value_span
            span = find(path)
        if replace is not None and self.document is not None:
            more["fix"] = self.document.replacement(path, replace, key=at_key)
        self.diagnostics.append(Diagnostic(code, message, path, span, **more))
        return _FAILED

    # --- mappings of the language ---

    def language(self, cls: type, data: object, path: KeyPath) -> Any:
        if not isinstance(data, Mapping):
            return self.wrong_type((cls,), data, {}, path)
        keys = keys_of(cls)
        before = len(self.diagnostics)
        values: dict[str, Any] = {}
        for name, value in data.items():
            if not isinstance(name, str):
                self.report("non-string-key", f"the key {show(name)} is not text", path)
            elif name not in keys:
                self.unknown(cls, name, path, data)
            else:
                key = keys[name]
                values[key.attribute] = self.value(key.members, value, key.rules, (*path, name))
        for key in keys.values():
            if key.required and key.name not in data:
                self.report(
                    "missing-key",
                    f"{_label(path)} needs the key {key.name!r}",
                    path,
                    at_key=True,
                    expected=describe(key.members, key.rules),
                )
        self.alternatives(cls, data, path)
        if len(self.diagnostics) > before:
            return _FAILED
        return cls(**values)

    def unknown(self, cls: type, name: str, path: KeyPath, data: Mapping[Any, Any]) -> None:
        # Looking for names that are near takes its time, and nobody reads a thousand hints.
        few = len(self.diagnostics) < _MOST_HINTS
        advice = advise(cls, name, self.root) if few else Advice(None)
        expected = None if advice.hint else _known(list(keys_of(cls)))
        # Never mend one key into another that is given too.
        replace = advice.replace if advice.replace not in data else None
        self.report(
            "unknown-key",
            f"unknown key {name!r}",
            (*path, name),
            at_key=True,
            hint=advice.hint,
            expected=expected,
            replace=replace,
        )

    def alternatives(self, cls: type, data: Mapping[Any, Any], path: KeyPath) -> None:
        any_of: Sequence[str] = getattr(cls, "ANY_OF", ())
        if any_of and not any(name in data for name in any_of):
            self.report("missing-key", f"{_label(path)} needs {one_of(any_of)}", path, at_key=True)
        groups: Sequence[Sequence[str]] = getattr(cls, "ONE_OF", ())
        if not groups:
            return
        started = [group for group in groups if any(name in data for name in group)]
        choices = one_of([" with ".join(group) for group in groups])
        if not started:
            self.report(
                "exactly-one",
                f"{_label(path)} needs one of its keys",
                path,
                at_key=True,
                expected=choices,
            )
        elif len(started) > 1:
            given = [name for group in groups for name in group if name in data]
            self.report(
                "exactly-one",
                f"{_label(path)} has {' and '.join(given)}",
                (*path, given[1]),
                at_key=True,
                expected=f"only one of {choices}",
            )
        else:
            for name in started[0]:
                if name not in data:
                    self.report(
                        "missing-key",
                        f"{_label(path)} needs the key {name!r}",
                        path,
                        at_key=True,
                        expected=" with ".join(started[0]),
                    )

    # --- values ---

    def value(
        self, members: Sequence[Any], value: object, rules: Mapping[str, Any], path: KeyPath
    ) -> Any:
        if Any in members:
            return self.plain(value, path)
        if value is None and type(None) in members:
            return None
        for member in members:
            origin = typing.get_origin(member)
            if is_language(member):
                shorthand = rules.get("shorthand")
                if shorthand and isinstance(value, str):
                    return self.shorthand(member, shorthand, value, path)
                if isinstance(value, Mapping):
                    return self.language(member, value, path)
            elif is_mapping(member) and isinstance(value, Mapping):
                return self.mapping(member, value, rules, path)
            elif origin is tuple and isinstance(value, (list, tuple)):
                return self.sequence(member, value, rules, path)
            elif origin is Literal:
                found = self.literal(members, typing.get_args(member), value, rules, path)
                if found is not None:
                    return found
            elif self.is_scalar(member, value, members):
                return self.scalar(member, value, rules, path)
        return self.wrong_type(members, value, rules, path)

    def plain(self, value: object, path: KeyPath) -> Any:
        """Data that the language does not look into: what YAML can say, and nothing else."""
        if isinstance(value, Mapping):
            for name, item in value.items():
                if not isinstance(name, str):
                    self.report("non-string-key", f"the key {show(name)} is not text", path)
                else:
                    self.plain(item, (*path, name))
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                self.plain(item, (*path, index))
        elif not (value is None or isinstance(value, (str, bool, int, float))):
            self.report(
                "wrong-type",
                f"{_label(path)} is {_kind(value)}",
                path,
                expected="text, a number, true, false, null, a list or a mapping",
            )
        return value

    def shorthand(self, cls: type, name: str, value: str, path: KeyPath) -> Any:
        key = keys_of(cls)[name]
        result = self.value(key.members, value, key.rules, path)
        return _FAILED if result is _FAILED else self.language(cls, {name: value}, path)

    def mapping(
        self, hint: Any, data: Mapping[Any, Any], rules: Mapping[str, Any], path: KeyPath
    ) -> Any:
        self.length(len(data), rules, path, "entry", "entries")
        members = members_of(typing.get_args(hint)[1])
        inner = {k: v for k, v in rules.items() if not k.endswith("_items")}
        pattern = rules.get("key_pattern")
        result: dict[str, Any] = {}
        for name, value in data.items():
            child = (*path, name)
            if not isinstance(name, str):
                self.report("non-string-key", f"the key {show(name)} is not text", path)
                continue
            if pattern and not compiled(pattern).fullmatch(name):
                self.report(
                    "wrong-format",
                    f"{show(name)} cannot be a key of {_label(path)}",
                    child,
                    at_key=True,
                    expected=pattern_words(pattern),
                )
            result[name] = self.value(members, value, inner, child)
        return result

    def sequence(
        self, hint: Any, data: Sequence[Any], rules: Mapping[str, Any], path: KeyPath
    ) -> Any:
        self.length(len(data), rules, path, "item", "items")
        members = members_of(typing.get_args(hint)[0])
        inner = {k: v for k, v in rules.items() if not k.endswith("_items")}
        return tuple(
            self.value(members, item, inner, (*path, index)) for index, item in enumerate(data)
        )

    def length(
        self, found: int, rules: Mapping[str, Any], path: KeyPath, one: str, many: str
    ) -> None:
        low, high = rules.get("min_items", 0), rules.get("max_items", math.inf)
        if not low <= found <= high:
            limit = f"at least {low}" if found < low else f"at most {high}"
            noun = one if found == 1 else many
            self.report(
                "wrong-length", f"{_label(path)} has {found or 'no'} {noun}", path, expected=limit
            )

    def literal(
        self,
        members: Sequence[Any],
        choices: Sequence[Any],
        value: object,
        rules: Mapping[str, Any],
        path: KeyPath,
    ) -> Any:
        for choice in choices:
            # True == 1 in Python, but `true` is not a 1 of a mask.
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return choice
        if isinstance(value, str) and all(isinstance(choice, str) for choice in choices):
            near = nearest(value, choices)
            self.report(
                "wrong-value",
                f"{_label(path)} cannot be {show(value)}",
                path,
                expected=describe(members, rules),
                hint=f"did you mean {near[0]!r}?" if near else None,
                replace=near[0] if near else None,
            )
            return _FAILED
        return None

    def is_scalar(self, member: Any, value: object, members: Sequence[Any]) -> bool:
        if isinstance(value, bool):
            return member is bool
        if member is int:
            # As in JSON Schema, 4.0 is a whole number; beside float it stays what it is.
            whole = isinstance(value, float) and value.is_integer() and float not in members
            return isinstance(value, int) or whole
        if member is float:
            return isinstance(value, (int, float))
        return member is str and isinstance(value, str)

    def scalar(self, member: Any, value: Any, rules: Mapping[str, Any], path: KeyPath) -> Any:
        if member is bool:
            return value
        if member is str:
            pattern = rules.get("pattern")
            if pattern and not compiled(pattern).fullmatch(value):
                return self.report(
                    "wrong-format",
                    f"{_label(path)} cannot be {show(value)}",
                    path,
                    expected=pattern_words(pattern),
                )
            return value
        inside = isinstance(value, int) or math.isfinite(value)
        inside = inside and abs(value) <= 1e300
        inside = inside and value >= rules.get("minimum", -math.inf)
        inside = inside and value <= rules.get("maximum", math.inf)
        inside = inside and value > rules.get("above", -math.inf)
        inside = inside and value < rules.get("below", math.inf)
        inside = inside and value == rules.get("const", value)
        if not inside:
            const = rules.get("const")
            expected = describe((member,), rules) if const is None else str(const)
            return self.report(
                "out-of-range", f"{_label(path)} cannot be {show(value)}", path, expected=expected
            )
        return member(value)

    def wrong_type(
        self, members: Sequence[Any], value: object, rules: Mapping[str, Any], path: KeyPath
    ) -> Any:
        hint = _type_hint(members, value)
        if value is None:
            message = f"{_label(path)} has no value"
            hint = hint or "give one, or remove the key"
        else:
            message = f"{_label(path)} is {_kind(value)}"
        return self.report(
            "wrong-type",
            message,
            path,
            expected=describe(members, rules),
            hint=hint,
            replace=_plain(members, value),
        )


def _known(names: Sequence[str]) -> str:
    if len(names) <= 10:
        return one_of(names)
    return f"one of {', '.join(names[:8])} and {len(names) - 8} others"


def _kind(value: object) -> str:
    if isinstance(value, (bool, Mapping, list, tuple)):
        return show(value)
    if isinstance(value, str):
        return f"the text {show(value)}"
    if isinstance(value, (int, float)):
        return f"the number {show(value)}"
    return f"a Python {type(value).__name__}"


def _label(path: KeyPath) -> str:
    if not path:
        return "the adapter"
    last = path[-1]
    if isinstance(last, int):
        owner = next((step for step in reversed(path) if isinstance(step, str)), "the list")
        return f"item {last + 1} of {owner!r}"
    return repr(last)


def _plain(members: Sequence[Any], value: object) -> str | None:
    """A text that is a number or a boolean, as YAML 1.2 writes it."""
    if not isinstance(value, str):
        return None
    folded = value.casefold()
    if bool in members and folded in _YAML_1_1_BOOLEANS | {"true", "false"}:
        return "true" if folded in ("yes", "on", "y", "true") else "false"
    if (int in members or float in members) and _ALMOST_NUMBER.fullmatch(value):
        return value.replace("_", "")
    return None


def _type_hint(members: Sequence[Any], value: object) -> str | None:
    wants_number = int in members or float in members
    wants_list = any(typing.get_origin(m) is tuple for m in members)
    if isinstance(value, str):
        if bool in members and value.casefold() in _YAML_1_1_BOOLEANS | {"true", "false"}:
            return f"{value} is text in YAML 1.2; write true or false without quotes"
        if wants_number and _ALMOST_NUMBER.fullmatch(value):
            extra = ", and without '_'" if "_" in value else ""
            return f"write {value.replace('_', '')} without quotes{extra}"
        if wants_list:
            return f"write [{value}]"
    if isinstance(value, (bool, int, float)) and not isinstance(value, str):
        if str in members:
            return f'write "{show(value)}" in quotes if it is meant as text'
        if wants_list:
            return f"write [{show(value)}]"
    if isinstance(value, (list, tuple)) and any(is_mapping(m) or is_language(m) for m in members):
        return "write 'key: value' lines without dashes"
    return None
