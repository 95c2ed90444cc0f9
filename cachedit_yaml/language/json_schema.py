"""The JSON Schema of the language, made from the dataclasses, for editors and other tools.

``python -m cachedit_yaml.language.json_schema`` writes ``schemas/adapter.v1.schema.json``;
``--check`` only says whether it is up to date.
"""

from __future__ import annotations

import argparse
import inspect
import json
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from cachedit_yaml.language import spec
from cachedit_yaml.language.shapes import Key, is_language, is_mapping, keys_of, members_of

FILE_NAME: Final = f"adapter.v{spec.LANGUAGE_VERSION}.schema.json"
_ID: Final = f"urn:cachedit-yaml:schema:adapter:v{spec.LANGUAGE_VERSION}"
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_TITLE: Final = f"cachedit-yaml adapter, version {spec.LANGUAGE_VERSION}"
_EXAMPLES: Final[list[dict[str, Any]]] = [
    {
        "schema": 1,
        "pipelines": ["QwenImagePipeline", "QwenImageEditPipeline"],
        "transformers": {"transformer": {"blocks": {"transformer_blocks": "Pattern_1"}}},
    },
    {
        "schema": 1,
        "pipelines": ["AnyFlowFARPipeline"],
        "refuse": "Each chunk runs too few steps for a step to be like the one before.",
    },
]
_WORDS: Final = {int: "integer", float: "number", str: "string", bool: "boolean"}
_BOUNDS: Final = {
    "minimum": "minimum",
    "maximum": "maximum",
    "above": "exclusiveMinimum",
    "below": "exclusiveMaximum",
}


def generate() -> dict[str, Any]:
    """Make the JSON Schema of adapter files."""
    definitions: dict[str, Any] = {}
    root = _object(spec.AdapterSpec, definitions)
    # Editors add this line themselves to JSON files; YAML files use a comment.
    return {
        "$schema": _DIALECT,
        "$id": _ID,
        "title": _TITLE,
        **root,
        "examples": _EXAMPLES,
        "$defs": dict(sorted(definitions.items())),
    }


def text() -> str:
    """The JSON Schema as it stands in the file."""
    return json.dumps(generate(), indent=2, ensure_ascii=False) + "\n"


def schema_path() -> Path | None:
    """The file that is shipped: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "schemas", package.parent / "schemas"):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    return None


def _object(cls: type, definitions: dict[str, Any]) -> dict[str, Any]:
    keys = keys_of(cls)
    result: dict[str, Any] = {
        "description": " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split()),
        "type": "object",
        "properties": {name: _property(key, definitions) for name, key in keys.items()},
        "additionalProperties": False,
    }
    required = [name for name, key in keys.items() if key.required]
    if required:
        result["required"] = required
    any_of: Sequence[str] = getattr(cls, "ANY_OF", ())
    if any_of:
        result["anyOf"] = [{"required": [name]} for name in any_of]
    groups: Sequence[Sequence[str]] = getattr(cls, "ONE_OF", ())
    if groups:
        result["oneOf"] = [{"required": list(group)} for group in groups]
        together = {
            name: [other for other in group if other != name]
            for group in groups
            if len(group) > 1
            for name in group
        }
        if together:
            result["dependentRequired"] = together
    return result


def _property(key: Key, definitions: dict[str, Any]) -> dict[str, Any]:
    result = {"description": key.rules["doc"], **_any(key.members, key.rules, definitions)}
    if "const" in key.rules:
        result["const"] = key.rules["const"]
    if "examples" in key.rules:
        result["examples"] = list(key.rules["examples"])
    return result


def _any(
    members: Sequence[Any], rules: Mapping[str, Any], definitions: dict[str, Any]
) -> dict[str, Any]:
    choices = [_type(member, rules, definitions) for member in members]
    shorthand = rules.get("shorthand")
    for member in members:
        if shorthand and is_language(member):
            short = keys_of(member)[shorthand]
            choices.insert(0, _any(short.members, short.rules, definitions))
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def _type(member: Any, rules: Mapping[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    if member is type(None):
        return {"type": "null"}
    if member is Any:
        return {}
    if is_language(member):
        name = member.__name__
        if name not in definitions:
            definitions[name] = {}  # a place, should the language ever nest in itself
            definitions[name] = _object(member, definitions)
        return {"$ref": f"#/$defs/{name}"}
    origin = typing.get_origin(member)
    if origin is Literal:
        return {"enum": list(typing.get_args(member))}
    inner = {name: rule for name, rule in rules.items() if not name.endswith("_items")}
    if origin is tuple:
        item = _any(members_of(typing.get_args(member)[0]), inner, definitions)
        return {"type": "array", "items": item, **_count(rules, "minItems", "maxItems")}
    if is_mapping(member):
        value = _any(members_of(typing.get_args(member)[1]), inner, definitions)
        result: dict[str, Any] = {"type": "object", "additionalProperties": value}
        if "key_pattern" in rules:
            result["propertyNames"] = {"pattern": rules["key_pattern"]}
        return {**result, **_count(rules, "minProperties", "maxProperties")}
    result = {"type": _WORDS[member]}
    if member in (int, float):
        result.update({_BOUNDS[name]: rule for name, rule in rules.items() if name in _BOUNDS})
    elif member is str and "pattern" in rules:
        result["pattern"] = rules["pattern"]
    return result


def _count(rules: Mapping[str, Any], low: str, high: str) -> dict[str, Any]:
    found = {low: rules.get("min_items"), high: rules.get("max_items")}
    return {name: value for name, value in found.items() if value is not None}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file, or check it.

    Returns:
        0, or 1 when the check finds another text.
    """
    parser = argparse.ArgumentParser(prog="python -m cachedit_yaml.language.json_schema")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if outdated")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).resolve().parents[2] / "schemas" / FILE_NAME,
    )
    args = parser.parse_args(argv)
    wanted = text()
    if args.check:
        current = args.output.read_text(encoding="utf-8") if args.output.is_file() else ""
        if current != wanted:
            print(f"{args.output} is out of date; run python -m cachedit_yaml.language.json_schema")
            return 1
        return 0
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
