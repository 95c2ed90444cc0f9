"""Check single values: scalars, choices, lengths, and data that the language does not look into."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cachedit_yaml.language.shapes import compiled, describe, pattern_words
from cachedit_yaml.language.wording import as_written, kind, label, type_hint
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath, nearest, show
from cachedit_yaml.yaml.document import Document

#: What stands for a value that is wrong.
FAILED: Any = object()


class Values:
    """Checks values and keeps what is wrong with them.

    Attributes:
        document: the document that the values come from, for positions.
        diagnostics: every finding so far.
    """

    def __init__(self, document: Document | None) -> None:
        self.document = document
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
        return FAILED

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
                f"{label(path)} is {kind(value)}",
                path,
                expected="text, a number, true, false, null, a list or a mapping",
            )
        return value

    def length(
        self, found: int, rules: Mapping[str, Any], path: KeyPath, one: str, many: str
    ) -> None:
        low, high = rules.get("min_items", 0), rules.get("max_items", math.inf)
        if not low <= found <= high:
            limit = f"at least {low}" if found < low else f"at most {high}"
            noun = one if found == 1 else many
            self.report(
                "wrong-length", f"{label(path)} has {found or 'no'} {noun}", path, expected=limit
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
                f"{label(path)} cannot be {show(value)}",
                path,
                expected=describe(members, rules),
                hint=f"did you mean {near[0]!r}?" if near else None,
                replace=near[0] if near else None,
            )
            return FAILED
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
                    f"{label(path)} cannot be {show(value)}",
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
                "out-of-range", f"{label(path)} cannot be {show(value)}", path, expected=expected
            )
        return member(value)

    def wrong_type(
        self, members: Sequence[Any], value: object, rules: Mapping[str, Any], path: KeyPath
    ) -> Any:
        hint = type_hint(members, value)
        if value is None:
            message = f"{label(path)} has no value"
            hint = hint or "give one, or remove the key"
        else:
            message = f"{label(path)} is {kind(value)}"
        return self.report(
            "wrong-type",
            message,
            path,
            expected=describe(members, rules),
            hint=hint,
            replace=as_written(members, value),
        )
