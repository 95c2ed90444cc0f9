"""Turn plain data into the dataclasses of the language, collecting everything that is wrong.

One walker serves YAML documents (with positions) and dicts that a user passes from Python
(without). It knows no key by name: all it knows comes from the fields of the dataclasses.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from cachedit_yaml.language.misplaced import Advice, advise
from cachedit_yaml.language.shapes import (
    compiled,
    describe,
    keys_of,
    kind_of,
    members_of,
    pattern_words,
    required_keys,
)
from cachedit_yaml.language.values import FAILED, Values
from cachedit_yaml.language.wording import known, label
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath, one_of, show
from cachedit_yaml.yaml.document import Document

T = TypeVar("T")

_MOST_HINTS: Final = 50


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
    failed = result is FAILED or walker.diagnostics
    return (None if failed else result), walker.diagnostics


class _Walker(Values):
    def __init__(self, document: Document | None, root: type) -> None:
        super().__init__(document)
        self.root = root

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
        for key in required_keys(cls):
            if key.name not in data:
                self.report(
                    "missing-key",
                    f"{label(path)} needs the key {key.name!r}",
                    path,
                    at_key=True,
                    expected=describe(key.members, key.rules),
                )
        self.alternatives(cls, data, path)
        if len(self.diagnostics) > before:
            return FAILED
        return cls(**values)

    def unknown(self, cls: type, name: str, path: KeyPath, data: Mapping[Any, Any]) -> None:
        # Looking for names that are near takes its time, and nobody reads a thousand hints.
        few = len(self.diagnostics) < _MOST_HINTS
        advice = advise(cls, name, self.root) if few else Advice(None)
        expected = None if advice.hint else known(list(keys_of(cls)))
        # Never mend one key into another that is given too, but for one that is inherited.
        replace = advice.replace
        if (
            replace is not None
            and replace in data
            and self.same_file((*path, name), (*path, replace))
        ):
            replace = None
        self.report(
            "unknown-key",
            f"unknown key {name!r}",
            (*path, name),
            at_key=True,
            hint=advice.hint,
            expected=expected,
            replace=replace,
        )

    def same_file(self, one: KeyPath, other: KeyPath) -> bool:
        if self.document is None:
            return True
        spans = self.document.key_span(one), self.document.key_span(other)
        return len({span.path for span in spans if span is not None}) < 2

    def alternatives(self, cls: type, data: Mapping[Any, Any], path: KeyPath) -> None:
        any_of: Sequence[str] = getattr(cls, "ANY_OF", ())
        if any_of and not any(name in data for name in any_of):
            self.report("missing-key", f"{label(path)} needs {one_of(any_of)}", path, at_key=True)
        groups: Sequence[Sequence[str]] = getattr(cls, "ONE_OF", ())
        if not groups:
            return
        started = [group for group in groups if any(name in data for name in group)]
        choices = one_of([" with ".join(group) for group in groups])
        if not started:
            self.report(
                "exactly-one",
                f"{label(path)} needs one of its keys",
                path,
                at_key=True,
                expected=choices,
            )
        elif len(started) > 1:
            given = [name for group in groups for name in group if name in data]
            self.report(
                "exactly-one",
                f"{label(path)} has {' and '.join(given)}",
                (*path, given[1]),
                at_key=True,
                expected=f"only one of {choices}",
            )
        else:
            for name in started[0]:
                if name not in data:
                    self.report(
                        "missing-key",
                        f"{label(path)} needs the key {name!r}",
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
            kind = kind_of(member)
            if kind == "scalar":
                if self.is_scalar(member, value, members):
                    return self.scalar(member, value, rules, path)
            elif kind == "language":
                shorthand = rules.get("shorthand")
                if shorthand and isinstance(value, str):
                    return self.shorthand(member, shorthand, value, path)
                if isinstance(value, Mapping):
                    return self.language(member, value, path)
            elif kind == "mapping":
                if isinstance(value, Mapping):
                    return self.mapping(member, value, rules, path)
            elif kind == "list":
                if isinstance(value, (list, tuple)):
                    return self.sequence(member, value, rules, path)
            else:
                found = self.literal(members, typing.get_args(member), value, rules, path)
                if found is not None:
                    return found
        return self.wrong_type(members, value, rules, path)

    def shorthand(self, cls: type, name: str, value: str, path: KeyPath) -> Any:
        key = keys_of(cls)[name]
        result = self.value(key.members, value, key.rules, path)
        return FAILED if result is FAILED else self.language(cls, {name: value}, path)

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
                    f"{show(name)} cannot be a key of {label(path)}",
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
