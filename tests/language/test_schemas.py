"""The published schemas: sound, alike in every file, of one mind with what checks by them."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from language_documents import BAD_VALUES, GOOD, Bad

from cachedit_yaml.engines import NAMES
from cachedit_yaml.language import spec
from cachedit_yaml.language.build import build
from cachedit_yaml.language.checker import iter_errors
from cachedit_yaml.language.schemas import KINDS, load, schema_of, schema_path
from cachedit_yaml.language.shapes import keys_of
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.language.structure import assemble, check
from cachedit_yaml.registry.search_path import kind_of
from cachedit_yaml.yaml.reader import read_text

ROOT = Path(__file__).parents[2]
PUBLISHED = {kind: json.loads(schema_path(kind).read_text(encoding="utf-8")) for kind in KINDS}
ADAPTER = PUBLISHED["adapter"]
#: What any other tool makes of the published file.
PLAIN = jsonschema.Draft202012Validator(ADAPTER)
CLASSES = [
    cls for cls in vars(spec).values() if isinstance(cls, type) and dataclasses.is_dataclass(cls)
]


def data_of(text: str) -> Any:
    document, found = read_text(text)
    assert found == []
    return document.data


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping of a schema."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from nodes(item)


# --- the files ---


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_a_schema(kind: str) -> None:
    schema = PUBLISHED[kind]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"].endswith("2020-12/schema")
    assert schema["$id"] == f"urn:cachedit-yaml:schema:{kind}:v1"
    assert schema["title"]
    validator = jsonschema.Draft202012Validator(schema)
    assert schema["examples"]
    assert [e.message for item in schema["examples"] for e in validator.iter_errors(item)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_needs_no_other_file_and_holds_nothing_that_it_does_not_need(kind: str) -> None:
    schema = PUBLISHED[kind]
    references = {node["$ref"] for node in nodes(schema) if "$ref" in node}
    assert all(item.startswith(("#/$defs/", "#/properties/")) for item in references)
    needed = {item.split("/")[2] for item in references if item.startswith("#/$defs/")}
    assert needed == set(schema["$defs"])


def test_what_schemas_share_is_the_same() -> None:
    for kind in ("defaults", "probe"):
        for name, definition in PUBLISHED[kind]["$defs"].items():
            if name != "DefaultSettings":
                assert definition == ADAPTER["$defs"][name], f"{kind}: {name}"
        assert PUBLISHED[kind]["properties"]["schema"] == ADAPTER["properties"]["schema"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_described_and_every_mapping_is_closed(kind: str) -> None:
    resolved = load(kind)
    seen = 0
    for definition in [resolved, *resolved["$defs"].values()]:
        if "description" in definition:
            assert not definition["description"].endswith("..")
        if "properties" not in definition or definition is resolved["$defs"].get("Whole"):
            continue
        assert definition["additionalProperties"] is False
        assert definition["description"].endswith(".")
        for name, entry in definition["properties"].items():
            assert entry["description"].endswith("."), name
            seen += 1
    assert seen >= {"adapter": 180, "defaults": 90, "probe": 40}[kind]


def test_patterns_are_whole_and_say_in_words_what_they_ask_for() -> None:
    found = [node for schema in PUBLISHED.values() for node in nodes(schema) if "pattern" in node]
    found = [node for node in found if isinstance(node["pattern"], str)]
    assert len(found) >= 15
    for node in found:
        assert node["pattern"].startswith("^"), node
        assert node["pattern"].endswith("$"), node
        # Editors show these words; our own messages say them too.
        assert node["patternErrorMessage"].startswith("expected "), node


def test_the_engines_are_those_of_the_table() -> None:
    assert tuple(ADAPTER["properties"]["engines"]["properties"]) == NAMES
    assert tuple(PUBLISHED["defaults"]["properties"]["engines"]["properties"]) == NAMES
    assert set(PUBLISHED["probe"]["properties"]) - {"schema"} == set(NAMES) - {"cache_dit"}
    kinds = ADAPTER["properties"]["kind"]["enum"]
    assert list(PUBLISHED["defaults"]["properties"]["kinds"]["properties"]) == kinds


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_dataclass_has_the_keys_of_its_schema(cls: type) -> None:
    if cls.__name__ == "Heading":
        assert set(keys_of(cls)) < set(ADAPTER["properties"])
        return
    shared = cls.__name__ == "DefaultSettings"
    schema = load("defaults")["$defs"][cls.__name__] if shared else schema_of(cls)
    assert set(keys_of(cls)) == set(schema["properties"])
    needed = {key.name for key in keys_of(cls).values() if key.default is dataclasses.MISSING}
    # What lies below may give a list's pattern.
    assert needed - ({"pattern"} if cls is spec.BlockList else set()) == set(
        schema.get("required", ())
    )
    for key in keys_of(cls).values():
        if key.name in needed or isinstance(key.default, (dict, tuple)) or key.default is None:
            continue
        data = {"cache": {}, "guidance": {}}.get(key.name, key.default)
        if key.default is not spec.UNSET and key.name != "name":
            assert list(iter_errors(schema["properties"][key.name], data)) == [], key.name


@pytest.mark.libraries  # check-jsonschema comes with the other tests' needs
@pytest.mark.parametrize(("kind", "least"), [("adapter", 60), ("defaults", 1), ("probe", 60)])
def test_every_shipped_file_passes_check_jsonschema(kind: str, least: int) -> None:
    files = [file for file in (ROOT / "adapters").rglob("*.yaml") if kind_of(file) == kind]
    assert len(files) >= least
    command = [sys.executable, "-m", "check_jsonschema", "--schemafile", str(schema_path(kind))]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# --- of one mind ---


def ours_accepts(data: Any) -> bool:
    return check(schema_of(AdapterSpec), data) == []


@pytest.mark.parametrize("name", GOOD)
def test_both_accept(name: str) -> None:
    data = data_of(GOOD[name])
    assert ours_accepts(data)
    assert [error.message for error in PLAIN.iter_errors(data)] == []


#: JSON has no infinite numbers.
IN_JSON = [case for case in BAD_VALUES if case.name not in ("nan", "inf")]


@pytest.mark.parametrize("case", IN_JSON, ids=lambda case: case.name)
def test_both_refuse(case: Bad) -> None:
    data = data_of(case.text)
    assert not ours_accepts(data)
    assert not PLAIN.is_valid(data)


def test_what_extends_or_engines_may_leave_out() -> None:
    lists: dict[str, Any] = {"t": {"blocks": {"b": {"params": {"scm": "fast"}}}}}
    whole = {"schema": 1, "pipelines": ["A"], "transformers": lists}
    section = {"schema": 1, "pipelines": ["A"], "engines": {"sglang": {"transformers": lists}}}
    taken = {"transformers": {"t": {"blocks": {"b": None}, "params": None}, "u": None}}
    for data, good in (
        (whole, False),
        ({**whole, "extends": "x"}, True),
        (section, True),
        ({"schema": 1, "pipelines": ["A"], **taken}, False),
        ({"schema": 1, "extends": "x", **taken, "step_split": None, "set": {"a": None}}, False),
        ({"schema": 1, "extends": "x", **taken, "step_split": None}, True),
        ({"schema": 1, "refuse": "x", "engines": {"sglang": {"refuse": None, **taken}}}, True),
        ({"schema": 1, "refuse": None}, False),
        # The defaults lie below every file.
        ({"schema": 1, "profiles": {"fast": None}}, True),
        ({"schema": 1, "extends": "x", "cache": {"max_warmup_steps": None}}, False),
    ):
        assert (ours_accepts(data), PLAIN.is_valid(data)) == (good, good), data


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12000),
    st.floats(-2, 3),
    st.sampled_from(
        [
            "fast",
            "static",
            "taylorseer",
            "none",
            "Pattern_2",
            "pipeline.config.x",
            "separate",
            "not pipeline.a",
            "a b",
            "",
            "*",
            ">=1.5",
            "blocks",
            "_cache_dit_x",
            "DBPrune",
            "video",
            "2026-01-31",
        ]
    ),
    st.just([]),
    st.just({}),
    st.just([1, 0]),
    st.just(["A"]),
    st.just({"blocks": "Pattern_1"}),
    st.just({"preset": "fast"}),
    st.just({"when": "pipeline.x", "blocks": {"b": "Pattern_1"}}),
    st.just({"sglang": {}}),
    st.just({"model": "m", "steps": 8, "psnr": {"pooled": 30}}),
)
KEYS = sorted({name for node in nodes(ADAPTER) for name in node.get("properties", ())} | {"zzz"})


def paths(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        found += paths(value, (*path, key)) if isinstance(value, (dict, list)) else [(*path, key)]
    return found


@settings(max_examples=300)
@given(st.data())
def test_of_one_mind_on_mutations(data: st.DataObject) -> None:
    """Our checker says what jsonschema says of the published file, and what passes can be built."""
    document = copy.deepcopy(data_of(GOOD[data.draw(st.sampled_from(sorted(GOOD)))]))
    for _ in range(data.draw(st.integers(1, 3))):
        places = [path for path in paths(document) if path]
        path = data.draw(st.sampled_from(places))
        parent = document
        for step in path[:-1]:
            parent = parent[step]
        action = data.draw(st.sampled_from(["replace", "delete", "add"]))
        if action == "replace":
            parent[path[-1]] = copy.deepcopy(data.draw(VALUES))
        elif action == "delete":
            del parent[path[-1]]
        elif isinstance(parent, dict):
            parent[data.draw(st.sampled_from(KEYS))] = copy.deepcopy(data.draw(VALUES))
        else:
            parent.append(copy.deepcopy(data.draw(VALUES)))
        if not document:
            break
    errors = check(schema_of(AdapterSpec), document)
    accepted = PLAIN.is_valid(document)
    assert (errors == []) == accepted, (
        document,
        [str(e) for e in errors],
        [e.message for e in PLAIN.iter_errors(document)],
    )
    if accepted:
        found, missing = assemble(AdapterSpec, document)
        assert (found is None) == bool(missing)


@settings(max_examples=200)
@given(st.data())
def test_of_one_mind_on_settings(data: st.DataObject) -> None:
    keys = sorted(ADAPTER["$defs"]["CacheSettings"]["properties"])
    cache = data.draw(st.dictionaries(st.sampled_from(keys), VALUES, max_size=4))
    document = {"schema": 1, "cache": cache}
    assert ours_accepts(document) == PLAIN.is_valid(document), document


def test_what_jsonschema_lets_pass_and_other_tools_do_not() -> None:
    for value in (math.nan, math.inf, -math.inf, 10**400):
        assert not ours_accepts({"schema": 1, "cache": {"residual_diff_threshold": value}})
    # Python's `$` also matches before a line break; that of JSON Schema does not.
    assert PLAIN.is_valid({"schema": 1, "pipelines": ["A\n"]})
    assert not ours_accepts({"schema": 1, "pipelines": ["A\n"]})


def test_a_part_that_lacks_what_lies_below_is_told_from_a_whole() -> None:
    lists = {"t": {"blocks": {"b": {}}, "params": None}}
    data = {"schema": 1, "transformers": lists}
    _, missing = build(AdapterSpec, data)
    assert missing == [
        ("transformers", "t", "blocks", "b", "pattern"),
        ("transformers", "t", "params"),
    ]
    _, found = assemble(AdapterSpec, data)
    assert [(item.code, item.key_path, item.message) for item in found] == [
        ("missing-key", ("transformers", "t", "blocks", "b"), "'b' needs the key 'pattern'"),
        ("wrong-type", ("transformers", "t", "params"), "'params' has no value"),
    ]
    assert "Pattern_5" in str(found[0].expected)


def test_the_reader_agrees_with_pyyaml_where_yaml_versions_do() -> None:
    for text in GOOD.values():
        if "1e-6" not in text:  # text in YAML 1.1
            assert data_of(text) == yaml.safe_load(text)
