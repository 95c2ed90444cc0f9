"""Mutations that know the language: of lines and words, and of the tree by the schema."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from cachedit_yaml.language.schemas import Schema, at, choices, load

SCHEMA = load("adapter")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

#: Texts that somebody may mean, and texts that somebody may mean harm with.
TEXTS = [
    "a", "name", "transformer", "transformer_2", "unet", "prior", "blocks", "transformer_blocks",
    "layers", "inner.blocks", "hidden_states", "encoder_hidden_states", "x", "temb", "timestep",
    "scheduler", "FluxPipeline", "FluxTransformer2DModel", "Small*", "A**Z*", "*" * 30 + "Z",
    "pipeline.config.boundary_ratio", "not pipeline.is_distilled", "pipeline.prior",
    "transformer.config.single", "_cache_dit_requires_paired_cfg", "flux", "../a.yaml", "org/repo",
    "http://localhost/a", "~nosuchuser/x", ">=1.5", "==99", "taylorseer", "2026-11-28", "cond",
    "\n::error::x\x1b[31m\u202e##[a]", "\u2028", "x" * 300, "9" * 30, "", " ",
]  # fmt: skip
NUMBERS = [
    0, 1, -1, 2, 3, 4, 8, 1000, 10000, 10001, 4_000_000_000, 10**30, 0.0, 0.12, 0.99, 1.0, 1.5,
    -0.5, 1e-9, 1e308, float("inf"), float("nan"),
]  # fmt: skip


def _words(schema: Any) -> Iterator[str]:
    """The keys and words of the language."""
    if isinstance(schema, dict):
        yield from (name for name in schema.get("properties", {}))
        yield from (str(word) for word in schema.get("enum", ()))
        for item in schema.values():
            yield from _words(item)
    elif isinstance(schema, list):
        for item in schema:
            yield from _words(item)


WORDS = sorted(set(_words(SCHEMA)))
VALUES = [
    *WORDS, "1", "0", "-1", "4", "0.12", "1e309", "null", "true", "[]", "{}", "[1, 0, 1, 1]",
    "FluxPipeline", "'*'", "'A**Z*'", "transformer", "transformer.blocks", "pipeline.prior",
    "blocks", "transformer_blocks", "not pipeline.config.x", "&a [*a]",
    '"\\n::error::x\\e[31m\\u202e##[a]"',
    "x" * 300, "9" * 30, "~", "../a.yaml", "|\n  text",
]  # fmt: skip


def by_lines(data: bytes, chance: random.Random) -> bytes:
    """Change a file by its lines and the words of the language."""
    lines = data.decode("utf-8", "replace").split("\n")
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(lines))
        line = lines[at]
        indent = " " * max(0, len(line) - len(line.lstrip()) + chance.choice((0, 0, 2, -2)))
        key, _, value = line.partition(":")
        word, other = chance.choice(WORDS), chance.choice(VALUES)
        lines[at : at + 1] = chance.choice(
            (
                [],
                [line, line],
                [line, f"{indent}{word}: {other}"],
                [f"{key}: {other}"],
                [f"{indent}{word}:{value}"],
                [line.replace(chance.choice(line.split() or [" "]), other, 1)],
                [chance.choice(lines)],
            )
        )
        lines = lines or [""]
    return "\n".join(lines).encode("utf-8", "replace")


def by_tree(data: bytes, chance: random.Random, harm: float) -> bytes | None:
    """Change a file by what it says, as the schema has it.

    Args:
        data: the file.
        chance: the source of chance.
        harm: how often something is put where the schema does not have it, from 0 to 1.

    Returns:
        The new file; None if the old one is no mapping.
    """
    try:
        tree = _LOADER(data.decode("utf-8", "replace")).get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    if not isinstance(tree, dict):
        return None
    for _ in range(chance.randint(1, 4)):
        _change(tree, chance, harm)
    flow = chance.choice((None, False, True))
    try:
        text = yaml.dump(tree, Dumper=_DUMPER, default_flow_style=flow, sort_keys=False)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return str(text).encode("utf-8", "replace")


def _change(tree: dict[Any, Any], chance: random.Random, harm: float) -> None:
    """Make one change somewhere in a tree."""
    path: tuple[Any, ...] = ()
    node: Any = tree
    while node and isinstance(node, (dict, list)) and chance.random() < 0.8:
        step = chance.choice(list(node) if isinstance(node, dict) else range(len(node)))
        path, parent, node = (*path, step), node, node[step]
    if not isinstance(node, (dict, list)) and path:
        if chance.random() < 0.7:
            schema = _at(path)
            parent[path[-1]] = make(schema if chance.random() >= harm else None, chance, harm)
            return
        path, node = path[:-1], parent
    schema = _at(path)
    way = chance.random()
    if node and way < 0.25:  # leave something out
        del node[chance.choice(list(node) if isinstance(node, dict) else range(len(node)))]
    elif isinstance(node, list):
        item = copy.deepcopy(chance.choice(node)) if node and way < 0.5 else None
        item = make(_at((*path, 0)), chance, harm) if item is None else item
        node.insert(chance.randint(0, len(node)), item)
    elif isinstance(node, dict):
        names = list(_properties(schema)) or TEXTS
        name = chance.choice(TEXTS if chance.random() < harm else names)
        if node and way < 0.4:  # what stands under another name
            node[name] = copy.deepcopy(node[chance.choice(list(node))])
        else:
            node[name] = make(_at((*path, name)), chance, harm)


def _at(path: tuple[Any, ...]) -> Schema | None:
    return at(SCHEMA, path)


def _properties(schema: Schema | None) -> Mapping[str, Any]:
    for choice in choices(schema) if schema else ():
        if "properties" in choice:
            found: Mapping[str, Any] = choice["properties"]
            return found
    return {}


def make(schema: Schema | None, chance: random.Random, harm: float, depth: int = 0) -> Any:
    """A value as a schema has it; one of any kind without a schema, and now and then."""
    if schema is None or chance.random() < harm / 4:
        return chance.choice((None, True, {}, [], chance.choice(TEXTS), chance.choice(NUMBERS)))
    kinds = choices(schema)
    if not kinds:
        return None
    schema = chance.choice(kinds)
    kind = schema.get("type")
    if "enum" in schema:
        return chance.choice(schema["enum"])
    if "const" in schema:
        return schema["const"]
    if kind == "boolean":
        return chance.random() < 0.5
    if kind in ("integer", "number"):
        return _number(schema, chance)
    if kind == "array":
        size = schema.get("minItems", 0) + chance.choice((0, 1, 1, 2, 3))
        return [make(schema.get("items"), chance, harm, depth + 1) for _ in range(size)]
    if kind == "object":
        return _mapping(schema, chance, harm, depth)
    return _text(schema, chance)


def _mapping(schema: Schema, chance: random.Random, harm: float, depth: int) -> dict[str, Any]:
    names: list[str] = list(schema.get("required", ()))
    for group in ("oneOf", "anyOf"):
        if group in schema and chance.random() >= harm:
            names += chance.choice(schema[group]).get("required", ())
    known = schema.get("properties", {})
    more = [name for name in known if chance.random() < 1.5 / (len(known) * (depth + 1))]
    result = {name: make(known.get(name), chance, harm, depth + 1) for name in [*names, *more]}
    if isinstance(schema.get("additionalProperties"), dict):
        named = schema.get("propertyNames", {})
        for _ in range(max(1, schema.get("minProperties", 0))):
            inside = schema["additionalProperties"]
            result[_text(named, chance)] = make(inside, chance, harm, depth + 1)
    return result


def _number(schema: Schema, chance: random.Random) -> float:
    whole = schema["type"] == "integer"
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 10))
    fitting = [x for x in NUMBERS if low <= x <= high and (x == x // 1 or not whole)]
    found = chance.choice(fitting or [low])
    return int(found) if whole else found


def _text(schema: Schema, chance: random.Random) -> str:
    pattern = schema.get("pattern")
    if pattern is None:
        return chance.choice(TEXTS)
    if pattern not in _FITTING:
        match = re.compile(pattern).fullmatch
        _FITTING[pattern] = [text for text in TEXTS if match(text)] or TEXTS
    return chance.choice(_FITTING[pattern])


#: Which of the texts fit a pattern of the schema.
_FITTING: dict[str, list[str]] = {}


def mutate(
    data: bytes,
    max_size: int,
    seed: int,
    shares: tuple[float, float],
    harm: tuple[float, ...],
) -> bytes | None:
    """Change a file in one of the ways.

    Args:
        data: the file.
        max_size: what the new one may have, in bytes.
        seed: the source of chance.
        shares: how often by the tree, and how often by lines, each from 0 to 1.
        harm: what :func:`by_tree` may take for it.

    Returns:
        The new file; None where its bytes are to be changed.
    """
    chance = random.Random(seed)
    way = chance.random()
    changed = by_tree(data, chance, chance.choice(harm)) if way < shares[0] else None
    if changed is None and way < sum(shares):
        changed = by_lines(data, chance)
    return changed if changed is None else changed[:max_size]
