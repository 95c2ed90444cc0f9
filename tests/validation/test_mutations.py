"""Mutation score: whatever the schema requires or types, breaking it is found, on its line.

The mutants are made from the dataclasses of the language, so a new key is tried by itself.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import pytest
import yaml

from cachedit_yaml.language.shapes import Key, is_language, is_mapping, keys_of, members_of, nested
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.rules.load import check_document
from cachedit_yaml.yaml.reader import read_text

#: Where a class of the language may be nested in itself, this is deep enough.
DEPTH = 6


class Mutant(NamedTuple):
    """A wrong document, and the line on which something must be found."""

    name: str
    text: str
    line: int


class Absent:
    """Stands for a key that is left out."""


#: Names that each pattern of the language accepts.
SAMPLES = {
    r"^[A-Za-z_*][A-Za-z0-9_*]*$": "MyClass",
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": "name",
}


def sample(members: tuple[Any, ...], rules: Any, depth: int = 0) -> Any:
    """A value that the language accepts."""
    member = next((m for m in members if m is not type(None)), None)
    origin = typing.get_origin(member)
    if member is Any or member is str:
        return text_for(rules.get("pattern"))
    if member is bool:
        return True
    if member in (int, float):
        if "const" in rules:
            return rules["const"]
        low = rules.get("minimum", rules.get("above", 0))
        return 0.5 if member is float and low < 0.5 else max(1, int(low))
    if origin is Literal:
        return typing.get_args(member)[0]
    if is_language(member):
        return document(member, depth + 1)
    inner = {k: v for k, v in rules.items() if not k.endswith("_items")}
    if origin is tuple:
        items = members_of(typing.get_args(member)[0])
        return [sample(items, inner, depth)] * max(1, rules.get("min_items", 1))
    if is_mapping(member):
        values = members_of(typing.get_args(member)[1])
        names = [name_for(rules.get("key_pattern"), i) for i in range(rules.get("min_items", 1))]
        return {name: sample(values, inner, depth) for name in names or ["a"]}
    raise AssertionError(f"no sample for {member}")


def text_for(pattern: str | None) -> str:
    import re

    for text in ("name", "sglang", "a.b", "pipeline.x", ">=1", "_cache_dit_x"):
        if pattern is None or re.fullmatch(pattern, text):
            return text
    raise AssertionError(f"no text for {pattern}")


def name_for(pattern: str | None, index: int) -> str:
    text = text_for(pattern)
    return f"{text}{index}" if index else text


def document(cls: type, depth: int = 0) -> dict[str, Any]:
    """The smallest mapping that the language accepts for a class."""
    result = {
        key.name: sample(key.members, key.rules, depth)
        for key in keys_of(cls).values() if key.required
    }  # fmt: skip
    groups = getattr(cls, "ONE_OF", ()) or [[name] for name in getattr(cls, "ANY_OF", ())[:1]]
    if groups:
        for name in groups[0]:
            key = keys_of(cls)[name]
            result[name] = sample(key.members, key.rules, depth)
    if cls is AdapterSpec:
        result |= {
            "pipelines": ["MyPipeline"],
            "transformers": {"transformer": {"blocks": {"blocks": "Pattern_1"}}},
        }
    return result


def classes() -> Iterator[tuple[type, list[tuple[Key, str]]]]:
    """Every class of the language, with the keys that lead to it."""
    seen: set[type] = set()
    queue: list[tuple[type, list[tuple[Key, str]]]] = [(AdapterSpec, [])]
    for cls, way in queue:
        if cls in seen or len(way) > DEPTH:
            continue
        seen.add(cls)
        yield cls, way
        for key in keys_of(cls).values():
            inner = nested(key)
            if inner is not None:
                queue.append((inner[0], [*way, (key, inner[1])]))


def wrap(value: Any, way: list[tuple[Key, str]]) -> Any:
    """A whole document that holds a value at the end of a way."""
    owners = [AdapterSpec]
    for key, _ in way:
        inner = nested(key)
        assert inner is not None
        owners.append(inner[0])
    for (key, by), owner in zip(reversed(way), reversed(owners[:-1]), strict=True):
        if by == "NAME":
            value = {name_for(key.rules.get("key_pattern"), 0): value}
        elif by == "[]":
            value = [value]
        around = document(owner)
        groups = getattr(owner, "ONE_OF", ())
        for group in groups:
            if key.name not in group and any(key.name in other for other in groups):
                for name in group:
                    around.pop(name, None)
        around[key.name] = value
        value = around
    return value


MARK = "mark-of-the-mutant"


def owner_of(lines: list[str], place: int) -> int:
    """The line of the key, or of the item, whose mapping a line stands in; the first for none."""

    def indent(line: str) -> int:
        return len(line) - len(line.lstrip(" -"))

    if lines[place].lstrip().startswith("- "):
        return place
    for above in range(place - 1, -1, -1):
        item = lines[above].lstrip().startswith("- ") and indent(lines[above]) == indent(
            lines[place]
        )
        if item or indent(lines[above]) < indent(lines[place]):
            return above
    return 0


def dump(cls: type, way: list[tuple[Key, str]], key: str, value: Any) -> tuple[str, int] | None:
    """A document in which one key is broken, and the line where that shows."""
    around = document(cls)
    groups = getattr(cls, "ONE_OF", ())
    for group in groups:
        if key not in group and any(key in other for other in groups):
            for name in group:
                around.pop(name, None)
    around.pop(key, None)
    around[key] = MARK
    text = yaml.safe_dump(wrap(around, way), sort_keys=False, default_flow_style=False, width=10**6)
    lines = text.splitlines()
    if value is Absent:
        line = owner_of(lines, next(i for i, item in enumerate(lines) if MARK in item)) + 1
        del around[key]
        whole = wrap(around, way)
        return yaml.safe_dump(whole, sort_keys=False, default_flow_style=False, width=10**6), line
    line = next(i for i, item in enumerate(lines, 1) if MARK in item)
    shown = yaml.safe_dump(value, default_flow_style=True, width=10**6).replace("...", "").strip()
    return text.replace(MARK, shown), line


def wrong_values(key: Key) -> Iterator[tuple[str, Any]]:
    """Values that a key must not have."""
    members, rules = key.members, key.rules
    if Any in members:
        return
    plain = [m for m in members if m in (bool, int, float, str)]
    origins = [typing.get_origin(m) for m in members]
    collections = any(is_mapping(m) or is_language(m) for m in members)
    if type(None) not in members:
        yield "null", None
    if not collections:
        yield "mapping", {"a": 1}
    if tuple not in origins:
        yield "list", ["x"]
    if str not in plain:
        yield "text", "no such value"
    if bool not in plain:
        yield "boolean", True
    if not {int, float} & set(plain) and Literal not in origins:
        yield "number", 12345.5
    if int in plain and float not in plain:
        yield "fraction", 1.5
    if int in plain or float in plain:
        yield "huge", 1e308
        yield "nan", float("nan")
        for name, step in (("minimum", -1), ("above", 0)):
            if name in rules:
                yield name, rules[name] + step
        for name, step in (("maximum", 1), ("below", 0)):
            if name in rules:
                yield name, rules[name] + step
    if str in plain and "pattern" in rules:
        yield "pattern", "no such: form!"
    if any(is_mapping(m) for m in members) and "key_pattern" in rules:
        yield "key", {"no such: name!": 1}
    if "max_items" in rules and tuple in origins:
        member = next(m for m in members if typing.get_origin(m) is tuple)
        item = sample(members_of(typing.get_args(member)[0]), rules)
        yield "too many", [item] * (rules["max_items"] + 1)
    if rules.get("min_items"):
        yield "none", [] if tuple in origins else {}


def mutants() -> Iterator[Mutant]:
    for cls, way in classes():
        path = ".".join([*(key.name for key, _ in way), ""])
        for key in keys_of(cls).values():
            if key.required:
                made = dump(cls, way, key.name, Absent)
                if made is not None:
                    yield Mutant(f"{path}{key.name}: absent", *made)
            for what, value in wrong_values(key):
                if what == "null" and path.startswith("engines."):
                    continue  # takes away what all engines have
                made = dump(cls, way, key.name, value)
                if made is not None:
                    yield Mutant(f"{path}{key.name}: {what}", *made)
        made = dump(cls, way, "no_such_key_at_all", 1)
        if made is not None:
            yield Mutant(f"{path}: unknown key", *made)


MUTANTS = list(mutants())


def test_there_are_many_mutants() -> None:
    assert len(MUTANTS) >= 500
    keys = {mutant.name.partition(":")[0] for mutant in MUTANTS}
    assert {"schema", "cache.residual_diff_threshold", "transformers.blocks.pattern"} <= keys


@pytest.mark.parametrize("cls", [cls for cls, _ in classes()], ids=lambda cls: cls.__name__)
def test_the_documents_that_are_broken_are_good_before(cls: type) -> None:
    way = next(way for other, way in classes() if other is cls)
    text = yaml.safe_dump(wrap(document(cls), way), sort_keys=False)
    _, found, _ = check_document(*read_text(text, "a.yaml"))
    errors = [str(item) for item in found if item.severity == "error"]
    # What the rules on meaning say about a document without sense is not the matter here.
    without_sense = ("unknown-name", "unusable", "names no block lists")
    assert not [item for item in errors if not any(word in item for word in without_sense)]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant(mutant: Mutant) -> None:
    spec, found, _ = check_document(*read_text(mutant.text, "a.yaml"))
    assert spec is None, mutant.text
    lines = {item.span.line for item in found if item.severity == "error" and item.span}
    assert mutant.line in lines, (mutant.line, lines, mutant.text)
