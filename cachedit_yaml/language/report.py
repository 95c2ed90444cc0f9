"""jsonschema's errors as diagnostics: with the place, in the words of the language, with advice."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Final

from cachedit_yaml.language.kinds import fits, is_number_of
from cachedit_yaml.language.misplaced import FOREIGN, Advice, advise
from cachedit_yaml.language.schemas import Schema, at, choices, load
from cachedit_yaml.language.wording import (
    as_written,
    describe,
    form,
    kind,
    known,
    label,
    type_hint,
    types_of,
)
from cachedit_yaml.yaml.diagnostics import Diagnostic, KeyPath, nearest, one_of, show
from cachedit_yaml.yaml.document import Document

#: Nobody reads more than this.
MOST: Final = 1000
_MOST_HINTS: Final = 50
#: What the names below some keys are of.
_CALLED: Final[Mapping[str | int, str]] = {"engines": "engine", "kinds": "kind of model"}
_LENGTHS: Final[Mapping[str, tuple[str, str]]] = {
    "minItems": ("item", "items"),
    "maxItems": ("item", "items"),
    "minProperties": ("entry", "entries"),
    "maxProperties": ("entry", "entries"),
    "maxLength": ("character", "characters"),
}


class Report:
    """Turns jsonschema's errors into diagnostics; paths are those within the data."""

    def __init__(
        self,
        schema: Schema,
        data: object,
        document: Document | None,
        prefix: KeyPath,
        foreign: Mapping[str, str] = FOREIGN,
    ) -> None:
        self.schema = schema
        self.data = data
        self.document = document
        self.prefix = prefix
        self.foreign = foreign
        self.found: dict[tuple[KeyPath, str], Diagnostic] = {}

    def report(
        self,
        code: str,
        message: str,
        path: KeyPath,
        at_key: bool = False,
        replace: str | None = None,
        **more: Any,
    ) -> None:
        """Add a finding, unless the same place is known to be wrong in this way already."""
        whole = (*self.prefix, *path)
        span = None
        if self.document is not None:
            find = self.document.key_span if at_key else self.document.value_span
            span = find(whole)
            if replace is not None:
                more["fix"] = self.document.replacement(whole, replace, key=at_key)
        # A value that is of the wrong type also lies outside of the bounds for the right one.
        way = message if at_key else ""
        self.found.setdefault((path, way), Diagnostic(code, message, whole, span, **more))

    def label(self, path: KeyPath) -> str:
        whole = (*self.prefix, *path)
        return label(whole) if whole or self.schema is not load("adapter") else "the adapter"

    def in_order(self) -> list[Diagnostic]:
        """The findings in the order of the data, what is missing somewhere before what is there."""
        orders: dict[int, dict[Any, int]] = {}

        def place(item: tuple[tuple[KeyPath, str], Diagnostic]) -> list[int]:
            value: Any = self.data
            found = []
            for step in item[0][0]:
                if isinstance(step, int):
                    found.append(step)
                    value = value[step]
                else:
                    if id(value) not in orders:
                        orders[id(value)] = {name: i for i, name in enumerate(value)}
                    found.append(orders[id(value)][step])
                    value = value[step]
            return found

        return [diagnostic for _, diagnostic in sorted(self.found.items(), key=place)]

    # --- jsonschema's errors ---

    def add(self, error: Any, around: Schema | None = None) -> None:
        """Report an error.

        Args:
            error: jsonschema's ValidationError.
            around: the alternatives of which the error's schema is one.
        """
        if len(self.found) >= MOST:
            return
        path: KeyPath = tuple(error.absolute_path)
        if error.validator in ("anyOf", "oneOf"):
            self.alternatives(error, path)
        elif error.validator == "additionalProperties":
            for name in error.instance:
                if name not in error.schema["properties"]:
                    self.unknown(error.schema, name, path, error.instance)
        elif error.validator == "required":
            for name in error.validator_value:
                if name not in error.instance:
                    self.missing((*path, name))
        elif error.validator in _LENGTHS:
            self.length(error, path)
        elif "propertyNames" in itertools.islice(reversed(error.schema_path), 1, 2):
            self.report(
                "wrong-format",
                f"{show(error.instance)} cannot be a key of {self.label(path)}",
                (*path, error.instance),
                at_key=True,
                expected=form(error.schema),
            )
        elif error.validator != "dependentRequired":  # `oneOf` beside it says the same
            self.value(error, path, around)

    def alternatives(self, error: Any, path: KeyPath) -> None:
        """None of several alternatives holds: the one that fits the kind of the value is meant."""
        options: list[Schema] = error.validator_value
        if all(option.keys() == {"required"} for option in options):
            self.groups([option["required"] for option in options], error, path)
            return
        for index, option in enumerate(options):
            if any(fits(choice, error.instance) for choice in choices(option)):
                for inner in error.context:
                    if inner.schema_path[0] == index:
                        self.add(inner, error.schema)
                return
        self.wrong_type(error.schema, error.instance, path)

    def groups(self, groups: list[list[str]], error: Any, path: KeyPath) -> None:
        """Keys of which some are needed, or exactly one group."""
        started = [group for group in groups if any(name in error.instance for name in group)]
        choices = one_of([" with ".join(group) for group in groups])
        if error.validator == "anyOf":
            self.report("missing-key", f"{self.label(path)} needs {choices}", path, at_key=True)
        elif not started:
            message = f"{self.label(path)} needs one of its keys"
            self.report("exactly-one", message, path, at_key=True, expected=choices)
        elif len(started) > 1:
            given = [name for group in groups for name in group if name in error.instance]
            self.report(
                "exactly-one",
                f"{self.label(path)} has {' and '.join(given)}",
                (*path, given[1]),
                at_key=True,
                expected=f"only one of {choices}",
            )
        else:
            for name in started[0]:
                if name not in error.instance:
                    self.missing((*path, name), " with ".join(started[0]))

    def unknown(self, schema: Schema, name: object, path: KeyPath, data: Any) -> None:
        if not isinstance(name, str):
            return  # a dict of Python's; see below
        # Looking for names that are near takes its time, and nobody reads a thousand hints.
        few = len(self.found) < _MOST_HINTS
        advice = advise(schema, name, self.schema, self.foreign) if few else Advice(None)
        names = list(schema["properties"])
        what = _CALLED.get(path[-1]) if path else None
        self.report(
            "unknown-key",
            f"no {what} is called {name!r}" if what else f"unknown key {name!r}",
            (*path, name),
            at_key=True,
            hint=advice.hint,
            expected=None if advice.hint else known(names),
            # Never mend one key into another that is given too.
            replace=advice.replace if advice.replace not in data else None,
        )

    def missing(self, path: KeyPath, expected: str | None = None) -> None:
        """A key is missing, or nothing stands there but what takes away what is not there."""
        *parent, name = path
        wanted = at(self.schema, path)
        if self.stands(path):
            hint = "nothing is inherited there that null could take away; remove the key"
            self.wrong_type(wanted or {}, None, path, hint)
            return
        self.report(
            "missing-key",
            f"{self.label(tuple(parent))} needs the key {name!r}",
            tuple(parent),
            at_key=True,
            expected=expected or (describe(wanted) if wanted is not None else None),
        )

    def length(self, error: Any, path: KeyPath) -> None:
        size, limit = len(error.instance), error.validator_value
        one, many = _LENGTHS[error.validator]
        # A name that is too long is a key of the mapping, which the path leads to.
        key = "propertyNames" in itertools.islice(reversed(error.schema_path), 1, 2)
        what = f"a key of {self.label(path)}" if key else self.label(path)
        self.report(
            "wrong-length",
            f"{what} has {size or 'no'} {one if size == 1 else many}",
            (*path, error.instance) if key else path,
            at_key=key,
            expected=f"at least {limit}" if size < limit else f"at most {limit}",
        )

    def value(self, error: Any, path: KeyPath, around: Schema | None) -> None:
        """A single value is wrong."""
        schema, value = error.schema, error.instance
        if error.validator == "enum" and fits(schema, value):
            near = nearest(value, schema["enum"])
            # What a mapping says in a word is described by its words alone.
            whole = around if around is not None and "object" not in types_of(around) else schema
            self.report(
                "wrong-value",
                f"{self.label(path)} cannot be {show(value)}",
                path,
                expected=describe(whole),
                hint=f"did you mean {near[0]!r}?" if near else None,
                replace=near[0] if near else None,
            )
        elif error.validator == "pattern":
            self.report(
                "wrong-format",
                f"{self.label(path)} cannot be {show(value)}",
                path,
                expected=form(schema),
            )
        elif error.validator in ("type", "enum") and not is_number_of(schema, value):
            self.wrong_type(schema, value, path)
        else:
            message = f"{self.label(path)} cannot be {show(value)}"
            self.report("out-of-range", message, path, expected=describe(schema))

    def wrong_type(
        self, schema: Schema, value: object, path: KeyPath, hint: str | None = None
    ) -> None:
        # That a file must give a value says nothing of which one.
        schema = at(self.schema, path) or schema if value is None else schema
        wanted = types_of(schema)
        if value is None and schema.get("default") == {}:
            hint = "write '{}' where nothing differs there"
        self.report(
            "wrong-type",
            f"{self.label(path)} {'has no value' if value is None else f'is {kind(value)}'}",
            path,
            expected=describe(schema),
            hint=hint or type_hint(wanted, value),
            replace=as_written(wanted, value),
        )

    def stands(self, path: KeyPath) -> bool:
        """Whether the data has something at a path."""
        value: Any = self.data
        for step in path:
            if isinstance(step, str) and not (isinstance(value, Mapping) and step in value):
                return False
            value = value[step]
        return True
