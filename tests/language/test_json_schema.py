"""The JSON Schema: up to date, valid, and of one mind with the walker."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from language_documents import BAD_VALUES, GOOD, Bad

from cachedit_yaml.language import json_schema
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.language.structure import structure
from cachedit_yaml.yaml.reader import read_text

SCHEMA = json_schema.generate()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def data_of(text: str) -> Any:
    document, found = read_text(text)
    assert found == []
    return document.data


def walker_accepts(data: Any) -> bool:
    return structure(AdapterSpec, data)[0] is not None


def schema_accepts(data: Any) -> bool:
    return bool(VALIDATOR.is_valid(data))


def test_the_file_is_up_to_date() -> None:
    path = json_schema.schema_path()
    assert path is not None
    assert path.read_text(encoding="utf-8") == json_schema.text()
    assert json_schema.main(["--check"]) == 0


def test_check_and_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "deep" / "s.json"
    assert json_schema.main(["--check", "--output", str(path)]) == 1
    assert "out of date" in capsys.readouterr().out
    assert json_schema.main(["--output", str(path)]) == 0
    assert json_schema.main(["--check", "--output", str(path)]) == 0


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"].endswith("2020-12/schema")
    assert SCHEMA["title"]
    assert all(schema_accepts(example) for example in SCHEMA["examples"])
    assert json.loads(json_schema.text()) == json.loads(json.dumps(SCHEMA))


def test_every_key_is_described_and_every_mapping_is_closed() -> None:
    seen = 0
    for definition in [SCHEMA, *SCHEMA["$defs"].values()]:
        assert definition["additionalProperties"] is False
        assert definition["description"]
        for name, entry in definition["properties"].items():
            assert entry["description"], name
            seen += 1
    assert seen >= 80


@pytest.mark.parametrize("name", GOOD)
def test_both_accept(name: str) -> None:
    data = data_of(GOOD[name])
    assert walker_accepts(data)
    assert [error.message for error in VALIDATOR.iter_errors(data)] == []


#: JSON has no such numbers.
IN_JSON = [case for case in BAD_VALUES if case.name not in ("nan", "inf")]


@pytest.mark.parametrize("case", IN_JSON, ids=lambda case: case.name)
def test_both_refuse(case: Bad) -> None:
    data = data_of(case.text)
    assert not walker_accepts(data)
    assert not schema_accepts(data)


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
        ]
    ),
    st.just([]),
    st.just({}),
    st.just([1, 0]),
    st.just(["A"]),
    st.just({"blocks": "Pattern_1"}),
    st.just({"preset": "fast"}),
    st.just({"when": "pipeline.x", "blocks": {"b": "Pattern_1"}}),
)
KEYS = sorted(
    {*SCHEMA["properties"], *(k for d in SCHEMA["$defs"].values() for k in d["properties"]), "zzz"}
)


def paths(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        found += paths(value, (*path, key)) if isinstance(value, (dict, list)) else [(*path, key)]
    return found


@settings(max_examples=300)
@given(st.data())
def test_of_one_mind_on_mutations(data: st.DataObject) -> None:
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
    accepted = schema_accepts(document)
    spec, errors = structure(AdapterSpec, document)
    assert (spec is not None) == accepted, (
        document,
        [str(e) for e in errors],
        [e.message for e in VALIDATOR.iter_errors(document)],
    )


@settings(max_examples=200)
@given(st.data())
def test_of_one_mind_on_settings(data: st.DataObject) -> None:
    keys = sorted(SCHEMA["$defs"]["CacheSettings"]["properties"])
    cache = data.draw(st.dictionaries(st.sampled_from(keys), VALUES, max_size=4))
    document = {"schema": 1, "cache": cache}
    assert walker_accepts(document) == schema_accepts(document), document


def test_numbers_that_json_lacks_are_refused_by_the_walker() -> None:
    for value in (math.nan, math.inf, -math.inf):
        assert not walker_accepts({"schema": 1, "cache": {"residual_diff_threshold": value}})


def test_the_reader_agrees_with_pyyaml_where_yaml_versions_do() -> None:
    for text in GOOD.values():
        if "1e-6" not in text:  # text in YAML 1.1
            assert data_of(text) == yaml.safe_load(text)
