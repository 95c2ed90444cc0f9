"""The structure of the language: dataclasses from plain data, and back, and what is wrong."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from language_documents import GOOD

from cachedit_yaml.language import spec
from cachedit_yaml.language.build import to_data
from cachedit_yaml.language.schemas import choices, load
from cachedit_yaml.language.shapes import keys_of
from cachedit_yaml.language.spec import UNSET, AdapterSpec, CacheSettings
from cachedit_yaml.language.structure import check, structure
from cachedit_yaml.language.wording import describe
from cachedit_yaml.rules.load import load_adapter
from cachedit_yaml.yaml.reader import read_text

LANGUAGE = [
    cls for cls in vars(spec).values() if isinstance(cls, type) and dataclasses.is_dataclass(cls)
]


def adapter(text: str) -> AdapterSpec:
    return load_adapter(text)


def test_the_shortest_adapter() -> None:
    found = adapter(GOOD["shortest"])
    assert found.pipelines == ("APipeline",)
    assert found.transformers["transformer"].blocks == {
        "blocks": spec.BlockList(pattern="Pattern_1")
    }
    assert found.guidance.mode == "observed"
    # The defaults lie under every adapter.
    assert found.cache.Fn_compute_blocks == 1
    assert set(found.profiles) == {"quality", "balanced", "fast"}


def test_every_setting() -> None:
    found = dict(adapter(GOOD["settings"]).cache.given())
    assert found["max_accumulated_residual_diff_threshold"] is None
    assert found["scm"].compute_bins == (6, 1, 1)
    assert found["calibrator"].dmd_ridge == 1e-6
    assert isinstance(found["residual_diff_threshold"], float)
    pruned = dict(adapter(GOOD["pruning"]).cache.given())
    assert pruned["non_prune_block_ids"] == (0, 1)
    # Together the two documents say everything that there is to say.
    assert set(found) | set(pruned) == {item.name for item in dataclasses.fields(CacheSettings)}


def test_unset_differs_from_null() -> None:
    profiles = adapter(GOOD["wan"]).profiles
    assert profiles["by-list"].scm is None
    assert profiles["by-list"].calibrator is UNSET


def test_scalars_of_free_mappings_keep_their_types() -> None:
    when = adapter(GOOD["variants"]).transformers["dit.model"].denoising
    assert when is not None
    assert when.when == {
        "update_cache": False,
        "mode": "gen",
        "step": 1,
        "scale": 1.5,
        "past": None,
    }
    flags = adapter(GOOD["roles"]).set
    assert flags == {
        "_cache_dit_requires_paired_cfg": True,
        "_cache_dit_word": "x",
        "_cache_dit_n": 2.5,
    }


def test_a_whole_number_serves_as_a_float_and_a_whole_float_as_an_int() -> None:
    data = {"residual_diff_threshold": 0, "max_warmup_steps": 4.0}
    found, errors = structure(CacheSettings, data)
    assert errors == []
    assert found is not None
    assert isinstance(found.residual_diff_threshold, float)
    assert isinstance(found.max_warmup_steps, int)


def test_tuples_serve_as_lists() -> None:
    found, _ = structure(CacheSettings, {"scm": {"mask": (1, 0)}})
    assert found is not None
    assert found.scm == spec.StepMask(mask=(1, 0))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({1: 2}, "not text"),
        ({"max_warmup_steps": object()}, "a Python object"),
        ({"max_warmup_steps": 10**400}, "from 0 to 10000"),
        ({"max_accumulated_residual_diff_threshold": 10**400}, "above 0"),
        ({"scm": {1}}, "a Python set"),
        ([], "a list"),
        (None, "no value"),
        ("scm", "the text 'scm'"),
    ],
)
def test_python_data_of_any_kind(data: Any, says: str) -> None:
    found, errors = structure(CacheSettings, data, prefix=("cache_config",))
    assert found is None
    assert len(errors) == 1
    assert says in errors[0].summary()
    assert errors[0].span is None
    assert errors[0].location.startswith("cache_config")


@pytest.mark.parametrize("name", GOOD)
def test_plain_data_and_back(name: str) -> None:
    found = adapter(GOOD[name])
    again = load_adapter(to_data(found))
    assert again == found


@pytest.mark.parametrize("name", GOOD)
def test_adapters_can_be_copied_and_pickled(name: str) -> None:
    found = adapter(GOOD[name])
    assert copy.deepcopy(found) == found
    assert pickle.loads(pickle.dumps(found)) == found
    assert copy.deepcopy(found).cache.scm is UNSET or found.cache.scm is not UNSET


def test_unset_survives_copies() -> None:
    assert copy.deepcopy(UNSET) is UNSET
    assert pickle.loads(pickle.dumps(UNSET)) is UNSET


def test_lines_of_keys() -> None:
    found = adapter(GOOD["wan"])
    assert found.places[("cache", "residual_diff_threshold")].endswith(":5")
    assert found.places[("transformers", "transformer_2", "blocks", "blocks")].endswith(":13")


NUMBERS = st.one_of(st.integers(), st.floats(), st.booleans(), st.none(), st.text(max_size=8))


@settings(max_examples=300)
@given(
    st.recursive(
        NUMBERS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.one_of(
                    st.sampled_from(sorted({k for c in LANGUAGE for k in keys_of(c)})),
                    st.text(max_size=4),
                    st.integers(),
                ),
                inner,
                max_size=4,
            ),
        ),
        max_leaves=12,
    )
)
def test_no_python_data_raises(data: Any) -> None:
    found, errors = structure(AdapterSpec, data)
    assert (found is None) == bool(errors)
    assert all(str(item) and item.summary() for item in errors)


def test_the_message_of_a_huge_value_is_short() -> None:
    _, errors = structure(CacheSettings, {"scm": "x" * 100_000})
    assert len(errors[0].summary()) < 400
    assert read_text("a: 1")[0].data


def test_a_dict_that_holds_itself_is_no_endless_loop() -> None:
    data: dict[str, Any] = {"Fn_compute_blocks": 1, 2: {}}
    data["scm"] = data["more"] = data
    _, errors = structure(CacheSettings, data)
    assert {"non-string-key", "unknown-key"} <= {item.code for item in errors}


def test_findings_come_in_the_order_of_the_data() -> None:
    data = {"zzz": 1, "scm": "fst", "max_warmup_steps": -1, "aaa": 2, "calibrator": {}}
    _, errors = structure(CacheSettings, data)
    assert [item.key_path for item in errors] == [(name,) for name in data]


def test_of_alternatives_the_one_that_fits_the_value_is_meant() -> None:
    found = {
        "scm": [
            ("fst", "wrong-value", "slow, medium, fast or ultra"),
            ([1], "wrong-type", "slow, medium, fast or ultra, or a mapping or null"),
            ({"mask": [0, 2]}, "wrong-type", "0 or 1"),
            ({"mask": 1}, "wrong-type", "a list"),
        ],
        "max_accumulated_residual_diff_threshold": [
            (0, "out-of-range", "a number above 0 or null"),
            ("0.1", "wrong-type", "a number above 0 or null"),
        ],
    }
    for name, cases in found.items():
        for value, code, expected in cases:
            (error,) = structure(CacheSettings, {name: value})[1]
            assert (error.code, error.expected) == (code, expected), value


def test_thousands_of_errors_are_cut_short() -> None:
    many = {f"k{i}": {"blocks": {"b": "Pattern_9"}, "params": 1} for i in range(2000)}
    found = check(load("adapter"), {"schema": 1, "transformers": many})
    assert 1 <= len(found) <= 1001


def test_every_value_can_be_described() -> None:
    seen = 0
    definitions = load("adapter")["$defs"]
    for schema in (definitions[name] for name in definitions if name != "Whole"):
        for name, value in schema.get("properties", {}).items():
            words = describe(value)
            # Only what is the engine's own business may be anything.
            assert words != "any value" or not choices(value)[0].keys() - {"description"}, name
            assert "null" not in words or value.get("type") or "nothing" not in str(value)
            seen += 1
    assert seen >= 150
