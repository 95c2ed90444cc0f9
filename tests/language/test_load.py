"""Loading from files, text and dicts; what `extends` makes of it; settings of users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from language_documents import GOOD, HEAD

from cachedit_yaml.errors import AdapterError, AdapterNotFoundError, ConfigError, SchemaVersionError
from cachedit_yaml.language.spec import UNSET, CacheSettings, StepMask
from cachedit_yaml.rules.load import load_adapter, parse_settings, read_adapter

BASE = """\
schema: 1
name: base
description: the base
pipelines: [BasePipeline]
models: [org/base]
cache:
  residual_diff_threshold: 0.1
  max_warmup_steps: 8
  scm: {preset: slow, policy: static}
transformers:
  transformer:
    class: [BaseTransformer]
    blocks:
      double: Pattern_0
      single: {pattern: Pattern_3, params: {max_warmup_steps: 1}}
  other: {blocks: {blocks: Pattern_2}, optional: true}
step_split: {boundary: {ratio: 0.5, high: transformer, low: other}}
profiles:
  fast: {residual_diff_threshold: 0.3}
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def problems(path: Path) -> list[str]:
    adapter = read_adapter(path, name=path.name)
    assert not adapter.valid
    return [item.summary() for item in adapter.diagnostics if item.severity == "error"]


def test_a_file_gives_its_name_and_place(tmp_path: Path) -> None:
    path = write(tmp_path, mine=HEAD) / "mine.yaml"
    for source in (path, str(path)):
        spec = load_adapter(source)
        assert spec.name == "mine"
        assert spec.source == path
        assert spec.places[("pipelines",)].endswith(":2")


def test_text_is_told_from_a_path_by_its_line_break() -> None:
    assert load_adapter(HEAD).source is None
    with pytest.raises(AdapterError, match="cannot read the file"):
        load_adapter("schema: 1")


def test_text_and_dicts_need_not_name_a_pipeline() -> None:
    data = {"schema": 1, "transformers": {"transformer": {"blocks": {"blocks": "Pattern_1"}}}}
    assert load_adapter(data).name == "unnamed"
    assert load_adapter("schema: 1\ntransformers: {t: {blocks: {b: Pattern_1}}}\n").name


def test_errors_of_dicts_name_keys() -> None:
    with pytest.raises(AdapterError) as caught:
        load_adapter({"schema": 1, "transformers": {"t": {"blocks": {"b": "Pattern_9"}}}})
    assert str(caught.value).startswith("transformers.t.blocks.b: error[wrong-value]")
    with pytest.raises(AdapterError, match="schema: 1"):
        load_adapter({"transformers": {"t": {"blocks": {"b": "Pattern_1"}}}})
    with pytest.raises(SchemaVersionError):
        load_adapter({"schema": 2, "anything": "else"})


def test_the_version_has_its_own_error(tmp_path: Path) -> None:
    path = write(tmp_path, new="schema: 7\nfoo: 1\n") / "new.yaml"
    with pytest.raises(SchemaVersionError, match="reads version 1") as caught:
        load_adapter(path)
    assert len(caught.value.diagnostics) == 1


def test_warnings_do_not_stop_loading(tmp_path: Path) -> None:
    mask = "scm: {preset: fast, policy: static}"
    text = HEAD + f"cache: {{{mask}, max_accumulated_residual_diff_threshold: 2.0}}\n"
    path = write(tmp_path, a=text) / "a.yaml"
    assert load_adapter(path).cache.max_accumulated_residual_diff_threshold == 2.0
    assert [item.severity for item in read_adapter(path).diagnostics] == ["warning"]


# --- extends ---


def test_mappings_merge_and_the_rest_is_replaced(tmp_path: Path) -> None:
    child = """\
schema: 1
extends: base.yaml
pipelines: [ChildPipeline]
cache: {residual_diff_threshold: 0.2, scm: {mask: [1, 0]}}
transformers:
  transformer:
    class: [ChildTransformer]
    blocks:
      double: {params: {Fn_compute_blocks: 2}}
      single: {params: {Fn_compute_blocks: 3}}
profiles:
  slow: {residual_diff_threshold: 0.05}
"""
    spec = load_adapter(write(tmp_path, base=BASE, child=child) / "child.yaml")
    assert spec.name == "child"
    assert spec.description is None
    assert spec.pipelines == ("ChildPipeline",)
    assert spec.models == ()
    assert spec.cache.residual_diff_threshold == 0.2
    assert spec.cache.max_warmup_steps == 8
    # Half of one mask and half of another make none.
    assert spec.cache.scm == StepMask(mask=(1, 0))
    transformer = spec.transformers["transformer"]
    assert transformer.transformer_class == ("ChildTransformer",)
    assert transformer.blocks is not None
    # The shorthand of the base counts as its mapping.
    assert transformer.blocks["double"].pattern == "Pattern_0"
    params = transformer.blocks["single"].params
    assert params is not None
    assert (params.Fn_compute_blocks, params.max_warmup_steps) == (3, 1)
    assert spec.transformers["other"].optional
    assert set(spec.profiles) == {"quality", "balanced", "fast", "slow"}


def test_a_choice_is_replaced_whole(tmp_path: Path) -> None:
    child = "schema: 1\nextends: base.yaml\nstep_split: {count: {transformer: 4, other: -1}}\n"
    spec = load_adapter(write(tmp_path, base=BASE, child=child) / "child.yaml")
    assert spec.step_split is not None
    assert spec.step_split.boundary is None


def test_null_sets_back_what_is_inherited(tmp_path: Path) -> None:
    child = "schema: 1\nextends: base.yaml\ncache: {scm: ~}\n"
    assert load_adapter(write(tmp_path, base=BASE, child=child) / "child.yaml").cache.scm is None


def test_a_list_can_be_said_anew(tmp_path: Path) -> None:
    child = (
        "schema: 1\nextends: base.yaml\ntransformers:\n"
        "  transformer: {blocks: {single: Pattern_4}}\n"
    )
    spec = load_adapter(write(tmp_path, base=BASE, child=child) / "child.yaml")
    blocks = spec.transformers["transformer"].blocks
    assert blocks is not None
    assert blocks["single"].params is None


def test_messages_name_the_file_that_holds_the_mistake(tmp_path: Path) -> None:
    base = BASE.replace("max_warmup_steps: 8", "max_warmup_steps: many")
    child = "schema: 1\nextends: base.yaml\ncache: {max_cached_steps: few}\n"
    found = problems(write(tmp_path, base=base, child=child) / "child.yaml")
    assert len(found) == 2
    assert found[0].startswith("child.yaml:3:27: error[wrong-type]: 'max_cached_steps'")
    assert found[1].startswith("base.yaml:8:21: error[wrong-type]: 'max_warmup_steps'")


def test_rules_hold_across_files(tmp_path: Path) -> None:
    child = "schema: 1\nextends: base.yaml\ncache: {max_continuous_cached_steps: 0}\n"
    base = BASE.replace("max_warmup_steps: 8", "max_cached_steps: -2")
    found = problems(write(tmp_path, base=base, child=child) / "child.yaml")
    assert len(found) == 1
    assert found[0].startswith("base.yaml:8:21: error[out-of-range]")


def test_a_refusal_inherits_nothing_but_whom_it_is_for(tmp_path: Path) -> None:
    child = "schema: 1\nextends: base.yaml\npipelines: [P]\nrefuse: not this one\n"
    spec = load_adapter(write(tmp_path, base=BASE, child=child) / "child.yaml")
    assert spec.refuse == "not this one"
    assert {path: item.transformer_class for path, item in spec.transformers.items()} == {
        "transformer": ("BaseTransformer",)
    }
    assert spec.transformers["transformer"].blocks is None
    assert (spec.profiles, spec.steps, spec.step_split) == ({}, (), None)
    assert dict(spec.cache.given()) == {}


def test_bases_of_bases(tmp_path: Path) -> None:
    files = {"a0": BASE}
    files.update({f"a{i}": f"schema: 1\nextends: a{i - 1}.yaml\n" for i in range(1, 10)})
    write(tmp_path, **files)
    assert load_adapter(tmp_path / "a8.yaml").cache.max_warmup_steps == 8
    assert "more than 8" in problems(tmp_path / "a9.yaml")[0]


@pytest.mark.parametrize(
    ("extends", "says"),
    [
        ("child.yaml", "cannot extend itself"),
        ("none.yaml", "cannot read the file"),
        ("circle.yaml", "in a circle: child.yaml -> circle.yaml -> child.yaml"),
        ("broken.yaml", "broken.yaml:2:1: error[syntax]"),
        ("list.yaml", "the file holds a list"),
        ("new.yaml", "new.yaml:1:9: error[schema-version]"),
        ("/etc/base.yaml", "must be relative"),
        ("../none.yaml", "cannot read the file"),
        ("unheard-of", "no adapter is called 'unheard-of' where none is looked for"),
    ],
)
def test_bases_that_cannot_be_used(tmp_path: Path, extends: str, says: str) -> None:
    write(
        tmp_path,
        child=f"schema: 1\nextends: {extends}\n",
        circle="schema: 1\nextends: child.yaml\n",
        broken="schema: 1\n\tname: a\n",
        list="- 1\n",
        new="schema: 2\n",
    )
    found = problems(tmp_path / "child.yaml")
    assert says in "\n".join(found)
    # One cause, no complaint about what would have been inherited.
    assert not any("missing-key" in item for item in found)


def test_extends_of_another_type_is_left_to_the_walker(tmp_path: Path) -> None:
    path = write(tmp_path, a="schema: 1\nextends: [base]\nrefuse: x\n") / "a.yaml"
    assert "'extends' is a list" in problems(path)[0]


def test_names_go_through_the_resolver(tmp_path: Path) -> None:
    path = write(tmp_path, base=BASE) / "base.yaml"
    asked: list[Any] = []

    def resolve(name: str, origin: Path | None) -> Path:
        asked.append((name, origin))
        if name == "base":
            return path
        raise AdapterNotFoundError("it is not there")

    data = {"schema": 1, "extends": "base", "cache": {"max_warmup_steps": 2}}
    spec = load_adapter(data, resolve=resolve)
    assert asked == [("base", None)]
    assert spec.cache.max_warmup_steps == 2
    assert spec.cache.residual_diff_threshold == 0.1
    with pytest.raises(AdapterError, match="it is not there"):
        load_adapter({"schema": 1, "extends": "x"}, resolve=resolve)
    with pytest.raises(AdapterError, match="use a name"):
        load_adapter({"schema": 1, "extends": "base.yaml"}, resolve=resolve)


def test_a_dict_on_a_file_has_places_only_for_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, base=BASE.replace("0.1", "2")) / "base.yaml"
    data = {"schema": 1, "extends": "base", "profiles": {"fast": {"scm": "x"}}}
    with pytest.raises(AdapterError) as caught:
        load_adapter(data, resolve=lambda name, origin: path)
    spans = {item.key_path: item.span for item in caught.value.diagnostics}
    assert spans[("profiles", "fast", "scm")] is None
    inherited = spans[("cache", "residual_diff_threshold")]
    assert inherited is not None
    assert inherited.line == 7


# --- settings of users ---


def test_settings() -> None:
    found = parse_settings({"residual_diff_threshold": 0.2, "scm": "fast", "calibrator": None})
    assert isinstance(found, CacheSettings)
    assert found.scm == StepMask(preset="fast")
    assert found.calibrator is None
    assert found.max_warmup_steps is UNSET
    assert parse_settings({}) == CacheSettings()


def test_all_mistakes_in_settings_are_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(
            {
                "residual_diff_treshold": 0.2,
                "max_warmup_steps": "4",
                "calibrator": {"type": "foca", "dmd_rank": 2},
                "enable_separate_cfg": True,
            },
            "engine.cache_config",
        )
    text = str(caught.value)
    assert "engine.cache_config.residual_diff_treshold: error[unknown-key]" in text
    assert "did you mean 'residual_diff_threshold'?" in text
    assert "engine.cache_config.max_warmup_steps: error[wrong-type]" in text
    assert "engine.cache_config.calibrator.dmd_rank: error[unusable]" in text
    assert "guidance: separate" in text


@pytest.mark.parametrize("data", [None, [], "fast", 3])
def test_settings_that_are_no_mapping(data: Any) -> None:
    with pytest.raises(ConfigError, match=r"cache_config: error\[wrong-type\]"):
        parse_settings(data)


def test_good_documents_load_from_files_too(tmp_path: Path) -> None:
    write(tmp_path, **GOOD)
    for name in GOOD:
        assert load_adapter(tmp_path / f"{name}.yaml").transformers or name == "refusal"


def test_a_list_that_follows_beside_a_name_that_is_no_text() -> None:
    lists = {1: "Pattern_0", "blocks": {"pattern": "Pattern_0", "follows": "block"}}
    data = {"schema": 1, "pipelines": ["A"], "transformers": {"transformer": {"blocks": lists}}}
    with pytest.raises(AdapterError) as raised:
        load_adapter(data)
    found = [item.code for item in raised.value.diagnostics]
    assert found == ["non-string-key", "wrong-format", "unknown-name"]
