"""The published JSON Schemas: what the language is, for editors, for other tools and for us.

They lie in ``schemas/`` and are written by hand. Everything that is said about a key, a value or
a form is said there, and nowhere else.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from cachedit_yaml.language.keys import LANGUAGE_VERSION

Schema: TypeAlias = Mapping[str, Any]

#: What each published schema is for, and the dataclass that such a file becomes; a file of probes
#: becomes one for each engine.
KINDS: Final[Mapping[str, str | None]] = {
    "adapter": "AdapterSpec",
    "defaults": "Defaults",
    "probe": None,
}


def schema_path(kind: str = "adapter") -> Path:
    """A published file: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    name = f"{kind}.v{LANGUAGE_VERSION}.schema.json"
    installed = package / "schemas" / name
    return installed if installed.is_file() else package.parent / "schemas" / name


@functools.cache
def load(kind: str) -> Schema:
    """A published schema, with what each ``$ref`` means in its place."""
    return resolved(json.loads(schema_path(kind).read_text(encoding="utf-8")))


def schema_of(cls: type) -> Schema:
    """What a dataclass of the language is built from."""
    for kind, name in KINDS.items():
        if cls.__name__ == name:
            return load(kind)
    found: Schema = load("adapter")["$defs"][cls.__name__]
    return found


def resolved(document: Schema) -> Schema:
    """A schema without references, which cost time and hide what they mean.

    What stands beside a reference wins over what it means. The language does not nest in itself.
    """
    known: dict[str, Any] = {}

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        own = {name: walk(item) for name, item in node.items() if name != "$ref"}
        return {**target(node["$ref"]), **own} if "$ref" in node else own

    def target(pointer: str) -> Any:
        if pointer not in known:
            found: Any = document
            for step in pointer.removeprefix("#/").split("/"):
                found = found[step]
            known[pointer] = walk(found)
        return known[pointer]

    return {name: walk(item) for name, item in document.items()}


def choices(schema: Schema) -> list[Schema]:
    """What a value may be, each of one type. That `null` takes something away is no choice."""
    if "type" not in schema and "anyOf" in schema:
        return [item for inner in schema["anyOf"] for item in choices(inner)]
    if schema.get("const", schema) is None:
        return []
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": kind} for kind in schema["type"]]
    return [schema]


def inner(schema: Schema) -> tuple[Schema, str] | None:
    """The mapping with keys of its own that a value leads to, and how it is reached.

    Returns:
        Its schema, and ``""`` (directly), ``"NAME"`` (by name) or ``"[]"`` (in a list); None for
        plain values.
    """
    for choice in choices(schema):
        if "properties" in choice:
            return choice, ""
        for keyword, by in (("additionalProperties", "NAME"), ("items", "[]")):
            for item in choices(choice[keyword]) if choice.get(keyword) else ():
                if "properties" in item:
                    return item, by
    return None


def at(schema: Schema, path: tuple[str | int, ...]) -> Schema | None:
    """What a schema says of a place; None where it says nothing."""
    for step in path:
        found = None
        for choice in choices(schema):
            if isinstance(step, int):
                found = choice.get("items")
            else:
                found = choice.get("properties", {}).get(step) or choice.get("additionalProperties")
            if found:
                break
        if not found:
            return None
        schema = found
    return schema
