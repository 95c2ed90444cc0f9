"""Mutation score: whatever the schema requires or types, breaking it is found, on its line.

The mutants are made from the published schema, so a new key is tried by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import pytest
import yaml

from cachedit_yaml.language.schemas import Schema, choices, inner, load
from cachedit_yaml.rules.adapter import Adapter
from cachedit_yaml.yaml.reader import read_text

#: A key of a mapping, the mapping, what it leads to, and how that is reached.
Step: TypeAlias = tuple[str, Schema, str]


class Mutant(NamedTuple):
    """A wrong document, and the line on which something must be found."""

    name: str
    text: str
    line: int


class Absent:
    """Stands for a key that is left out."""


def sample(schema: Schema) -> Any:
    """A value that the language accepts."""
    found = choices(schema)
    # A mapping where a word would do: it has more that can be wrong.
    choice = next((item for item in found if item.get("type") == "object"), found[0])
    kind = choice.get("type")
    if "const" in choice:
        return choice["const"]
    if "enum" in choice:
        return choice["enum"][0]
    if kind == "boolean":
        return True
    if kind in ("integer", "number"):
        low = choice.get("minimum", choice.get("exclusiveMinimum", 0))
        return 0.5 if kind == "number" and low < 0.5 else max(1, int(low))
    if "properties" in choice:
        return document(choice)
    if kind == "array":
        return [sample(choice["items"])] * max(1, choice.get("minItems", 1))
    if kind == "object":
        names = [name_for(choice, i) for i in range(choice.get("minProperties", 1))]
        return {name: sample(choice.get("additionalProperties") or {}) for name in names or ["a"]}
    return text_for(choice.get("pattern"))


def text_for(pattern: str | None) -> str:
    for text in ("name", "a.b", "pipeline.x", ">=1", "_cache_dit_x", "2026-01-31", "a.json"):
        if pattern is None or re.fullmatch(pattern, text):
            return text
    raise AssertionError(f"no text for {pattern}")


def name_for(schema: Schema, index: int) -> str:
    text = text_for(schema.get("propertyNames", {}).get("pattern"))
    return f"{text}{index}" if index else text


def needed(schema: Schema) -> list[str]:
    """The keys that the smallest mapping has."""
    groups = schema.get("oneOf") or schema.get("anyOf") or [{"required": []}]
    whole = ["pattern"] if "pattern" in schema["properties"] else []
    some = list(schema["properties"])[: schema.get("minProperties", 0)]
    return [*schema.get("required", ()), *groups[0]["required"], *whole, *some]


def document(schema: Schema) -> dict[str, Any]:
    """The smallest mapping that the language accepts."""
    result = {name: sample(schema["properties"][name]) for name in needed(schema)}
    if "extends" in schema["properties"]:
        result |= {
            "pipelines": ["MyPipeline"],
            "transformers": {"transformer": {"blocks": {"blocks": "Pattern_1"}}},
        }
    return result


def mappings() -> Iterator[tuple[Schema, list[Step]]]:
    """Every mapping of the language, with the keys that lead to it."""
    seen: set[str] = set()
    queue: list[tuple[Schema, list[Step]]] = [(load("adapter"), [])]
    for schema, way in queue:
        # The sections of engines are alike; what an engine's says is what the file itself says.
        shown = str(sorted(schema["properties"]))
        if shown in seen:
            continue
        seen.add(shown)
        yield schema, way
        for name, value in schema["properties"].items():
            below = inner(value)
            if below is not None:
                queue.append((below[0], [*way, (name, schema, below[1])]))


def without_others(around: dict[str, Any], schema: Schema, key: str) -> None:
    """Leave out of a mapping what excludes a key."""
    groups = [group["required"] for group in schema.get("oneOf", ())]
    for group in groups:
        if key not in group and any(key in other for other in groups):
            for name in group:
                around.pop(name, None)


def wrap(value: Any, way: list[Step]) -> Any:
    """A whole document that holds a value at the end of a way."""
    for name, schema, by in reversed(way):
        if by == "NAME":
            owner = next(item for item in choices(schema["properties"][name]) if "type" in item)
            value = {name_for(owner, 0): value}
        elif by == "[]":
            value = [value]
        around = document(schema)
        without_others(around, schema, name)
        around[name] = value
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


def dump(schema: Schema, way: list[Step], key: str, value: Any) -> tuple[str, int]:
    """A document in which one key is broken, and the line where that shows."""
    around = document(schema)
    without_others(around, schema, key)
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


def wrong_values(key: Schema) -> Iterator[tuple[str, Any]]:
    """Values that a key must not have."""
    found = {str(choice.get("type", "word")): choice for choice in choices(key)}
    if not any(len(choice.keys() - {"description"}) for choice in found.values()):
        return
    if "null" not in found:
        yield "null", None
    if "object" not in found:
        yield "mapping", {"a": 1}
    if "array" not in found:
        yield "list", ["x"]
    if "string" not in found:
        yield "text", "no such value"
    if "boolean" not in found:
        yield "boolean", True
    numbers = [found[kind] for kind in ("integer", "number") if kind in found]
    if not numbers and "word" not in found:
        yield "number", 12345.5
    if "integer" in found:
        yield "fraction", 1.5
    for number in numbers:
        yield "huge", 1e308
        yield "nan", float("nan")
        for name, step in (("minimum", -1), ("exclusiveMinimum", 0)):
            if name in number:
                yield name, number[name] + step
        for name, step in (("maximum", 1), ("exclusiveMaximum", 0)):
            if name in number:
                yield name, number[name] + step
    if "pattern" in found.get("string", {}):
        yield "pattern", "no such: form!"
    if "propertyNames" in found.get("object", {}):
        yield "key", {"no such: name!": 1}
    for low, high, kind in (("minItems", "maxItems", "array"),
                            ("minProperties", "maxProperties", "object")):  # fmt: skip
        choice = found.get(kind, {})
        if kind == "array" and high in choice:
            yield "too many", [sample(choice["items"])] * (choice[high] + 1)
        if choice.get(low):
            yield "none", [] if kind == "array" else {}


def mutants() -> Iterator[Mutant]:
    for schema, way in mappings():
        path = ".".join([*(name for name, _, _ in way), ""])
        for name, key in schema["properties"].items():
            if name in needed(schema)[: len(schema.get("required", ()))] or name == "pattern":
                yield Mutant(f"{path}{name}: absent", *dump(schema, way, name, Absent))
            for what, value in wrong_values(key):
                if what == "null" and path.startswith("engines."):
                    continue  # takes away what the file says further out
                yield Mutant(f"{path}{name}: {what}", *dump(schema, way, name, value))
        made = dump(schema, way, "no_such_key_at_all", 1)
        yield Mutant(f"{path}: unknown key", *made)


MUTANTS = list(mutants())


def test_there_are_many_mutants() -> None:
    assert len(MUTANTS) >= 500
    keys = {mutant.name.partition(":")[0] for mutant in MUTANTS}
    assert {"schema", "cache.residual_diff_threshold", "transformers.blocks.pattern"} <= keys
    assert {"engines.diffusers.refuse", "cache.measured.psnr.worst"} <= keys


@pytest.mark.parametrize(("schema", "way"), list(mappings()))
def test_the_documents_that_are_broken_are_good_before(schema: Schema, way: list[Step]) -> None:
    text = yaml.safe_dump(wrap(document(schema), way), sort_keys=False)
    found = Adapter.of(*read_text(text, "a.yaml")).diagnostics
    errors = [str(item) for item in found if item.severity == "error"]
    # What the rules on meaning say about a document without sense is not the matter here.
    without_sense = ("unknown-name", "unusable", "names no block lists")
    assert not [item for item in errors if not any(word in item for word in without_sense)]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant(mutant: Mutant) -> None:
    adapter = Adapter.of(*read_text(mutant.text, "a.yaml"))
    spec, found = adapter.checked_spec, adapter.diagnostics
    assert spec is None, mutant.text
    lines = {item.span.line for item in found if item.severity == "error" and item.span}
    assert mutant.line in lines, (mutant.line, lines, mutant.text)
