"""What an adapter means in each engine: sections, defaults, `extends`, and what null takes away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cachedit_yaml.compiler.settings import layers_for
from cachedit_yaml.errors import AdapterError
from cachedit_yaml.language import defaults
from cachedit_yaml.language.spec import AdapterSpec
from cachedit_yaml.rules.load import Adapter, read_adapter

DEFAULTS = """\
schema: 1
cache: {max_warmup_steps: 8, residual_diff_threshold: 0.1}
steps: [{max_steps: 8, max_warmup_steps: 2}]
profiles:
  fast: {residual_diff_threshold: 0.2, calibrator: taylorseer}
kinds:
  video:
    cache: {residual_diff_threshold: 0.3}
    profiles: {fast: {residual_diff_threshold: 0.4}}
engines:
  sglang: {cache: {max_warmup_steps: 4}, steps: []}
"""
HOME = """\
schema: 1
description: a family
pipelines: [HomePipeline]
models: [org/home]
cache: {Fn_compute_blocks: 2}
transformers:
  transformer:
    class: [HomeTransformer]
    blocks: {a: Pattern_0, b: {pattern: Pattern_3, params: {max_cached_steps: 1}}}
  other: {blocks: {d: Pattern_2}}
step_split: {count: {transformer: 4, other: -1}}
probe: {forward: {x: 1}}
"""
SECTION = """\
engines:
  sglang:
    pipelines: [TheirPipeline]
    cache: {max_cached_steps: 9}
    transformers: {transformer: {blocks: {a: null, c: Pattern_2}}}
    step_split: null
    probe: {forward: {x: 2}}
"""


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with defaults, in place of that of the package."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    (folder / "defaults.yaml").write_text(DEFAULTS)
    monkeypatch.setattr(defaults, "shipped_folder", lambda: folder)
    return folder


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def read(folder: Path, text: str, **others: str) -> Adapter:
    return read_adapter(write(folder, mine=text, **others) / "mine.yaml")


def given(spec: AdapterSpec) -> dict[str, Any]:
    return dict(spec.cache.given())


def errors(adapter: Adapter) -> list[str]:
    return [str(item) for item in adapter.diagnostics if item.severity == "error"]


# --- defaults ---


def test_defaults_lie_under_every_adapter(tmp_path: Path) -> None:
    spec = read(tmp_path, HOME).spec_for()
    assert given(spec) == {
        "Fn_compute_blocks": 2,
        "max_warmup_steps": 8,
        "residual_diff_threshold": 0.1,
    }
    assert [item.max_steps for item in spec.steps] == [8]
    assert spec.profiles["fast"].residual_diff_threshold == 0.2
    assert spec.places[("cache", "max_warmup_steps")] == "defaults.yaml:2"
    assert spec.places[("cache", "Fn_compute_blocks")] == "mine.yaml:5"
    assert spec.places[("profiles", "fast", "calibrator")] == "defaults.yaml:5"


def test_defaults_of_a_kind_and_of_an_engine(tmp_path: Path) -> None:
    adapter = read(tmp_path, HOME + "kind: video\n" + SECTION)
    home, theirs = adapter.spec_for("diffusers"), adapter.spec_for("sglang")
    assert home.kind == "video"
    assert (home.cache.residual_diff_threshold, home.cache.max_warmup_steps) == (0.3, 8)
    assert (theirs.cache.residual_diff_threshold, theirs.cache.max_warmup_steps) == (0.3, 4)
    assert theirs.profiles["fast"].residual_diff_threshold == 0.4
    assert (len(home.steps), theirs.steps) == (1, ())
    assert theirs.places[("cache", "max_warmup_steps")] == "defaults.yaml:11"


def test_an_adapter_wins_over_the_defaults_of_every_kind(tmp_path: Path) -> None:
    text = HOME.replace("Fn_compute_blocks: 2", "max_warmup_steps: 1") + "kind: video\n" + SECTION
    for engine in ("diffusers", "sglang", "vllm_omni"):
        assert read(tmp_path, text).spec_for(engine).cache.max_warmup_steps == 1


IN_SECTION = "transformers: {transformer: {params: {max_warmup_steps: 5}}}"


@pytest.mark.parametrize(
    "changed",
    [
        HOME.replace("Fn_compute_blocks: 2", "max_warmup_steps: 5"),
        HOME.replace("max_cached_steps: 1", "max_warmup_steps: 5"),
        HOME + "engines: {diffusers: {cache: {max_warmup_steps: 5}}}\n",
        HOME + "engines: {diffusers: {" + IN_SECTION + "}}\n",
    ],
)
def test_steps_of_the_defaults_outrank_no_adapter(tmp_path: Path, changed: str) -> None:
    def at_8_steps(text: str) -> int:
        spec = read(tmp_path, text).spec_for("diffusers")
        params = spec.transformers["transformer"].blocks["b"].params  # type: ignore[index]
        layers = layers_for(spec, "transformer", "b", params, profile=None, cache_config=None)
        return int(layers.resolve(8).values["max_warmup_steps"])

    assert at_8_steps(HOME) == 2
    assert at_8_steps(changed) == 5
    assert at_8_steps(changed + "steps: [{max_steps: 8, max_warmup_steps: 3}]\n") == 3


def test_no_defaults_under_a_refusal(tmp_path: Path) -> None:
    adapter = read(tmp_path, "schema: 1\npipelines: [A]\nrefuse: no use\n")
    assert (given(adapter.spec_for()), adapter.spec_for().profiles) == ({}, {})
    assert adapter.diagnostics == []


@pytest.mark.parametrize("text", [None, "- 1\n", "schema: 1\nkinds: 3\nengines: {sglang: 4}\n"])
def test_without_usable_defaults_an_adapter_is_what_it_says(
    tmp_path: Path, shipped: Path, text: str | None
) -> None:
    (shipped / "defaults.yaml").unlink()
    if text is not None:
        (shipped / "defaults.yaml").write_text(text)
    adapter = read(tmp_path, HOME + "kind: video\n" + SECTION)
    assert given(adapter.spec_for()) == {"Fn_compute_blocks": 2}
    assert given(adapter.spec_for("sglang")) == {"Fn_compute_blocks": 2, "max_cached_steps": 9}


def test_changed_defaults_are_read_again(tmp_path: Path, shipped: Path) -> None:
    assert read(tmp_path, HOME).spec_for().cache.max_warmup_steps == 8
    (shipped / "defaults.yaml").write_text("schema: 1\ncache: {max_warmup_steps: 3}\n")
    assert read(tmp_path, HOME).spec_for().cache.max_warmup_steps == 3


def test_warnings_about_the_defaults_are_not_the_adapters(tmp_path: Path, shipped: Path) -> None:
    text = "schema: 1\ncache: {max_cached_steps: 2, max_continuous_cached_steps: 4}\n"
    (shipped / "defaults.yaml").write_text(text)
    assert read(tmp_path, HOME).diagnostics == []
    mine = HOME.replace("Fn_compute_blocks: 2", "max_continuous_cached_steps: 3")
    assert [item.code for item in read(tmp_path, mine).diagnostics] == ["ignored"]


# --- sections ---


def test_a_section_is_laid_over_the_rest_for_its_engine_only(tmp_path: Path) -> None:
    adapter = read(tmp_path, HOME + SECTION)
    home, theirs = adapter.spec_for("diffusers"), adapter.spec_for("sglang")
    assert (home.engine, theirs.engine) == ("diffusers", "sglang")
    assert (home.pipelines, theirs.pipelines) == (("HomePipeline",), ("TheirPipeline",))
    assert theirs.description == "a family"
    assert set(home.transformers["transformer"].blocks or {}) == {"a", "b"}
    assert set(theirs.transformers["transformer"].blocks or {}) == {"b", "c"}
    assert theirs.transformers["transformer"].transformer_class == ("HomeTransformer",)
    assert home.step_split is not None
    assert theirs.step_split is None
    assert theirs.engines is None
    assert given(theirs)["max_cached_steps"] == 9
    assert theirs.places[("cache", "max_cached_steps")] == "mine.yaml:16"
    # Another engine that asks gets what all have.
    assert adapter.spec_for("vllm_omni").pipelines == ("HomePipeline",)


def test_probes_are_of_the_engine_that_they_stand_beside(tmp_path: Path) -> None:
    adapter = read(tmp_path, HOME + SECTION + "  vllm_omni: {}\n")
    probes = [adapter.spec_for(name).probe for name in ("diffusers", "cache_dit", "sglang")]
    assert [probe and probe.forward for probe in probes] == [{"x": 1}, {"x": 1}, {"x": 2}]
    assert adapter.spec_for("vllm_omni").probe is None


@pytest.mark.parametrize(
    ("more", "engines", "home"),
    [
        ("pipelines: [A]\n", ("diffusers", "cache_dit"), True),
        ("", ("diffusers", "cache_dit"), True),
        ("pipelines: [A]\nengines: {sglang: {}}\n", ("diffusers", "cache_dit", "sglang"), True),
        ("engines: {sglang: {}, vllm_omni: {}}\n", ("vllm_omni", "sglang"), False),
        ("engines: {diffusers: {pipelines: [A]}}\n", ("diffusers",), False),
        ("engines: {}\n", ("diffusers", "cache_dit"), True),
    ],
)
def test_which_engines_a_file_serves(
    tmp_path: Path, more: str, engines: tuple[str, ...], home: bool
) -> None:
    text = "schema: 1\ntransformers: {t: {class: [T], blocks: {b: Pattern_1}}}\n"
    adapter = read(tmp_path, text + more)
    assert errors(adapter) == []
    assert (adapter.engines, adapter.home) == (engines, home)
    assert adapter.spec_for().engine == engines[0]
    # Nobody else gets another view of it than the first.
    other = adapter.spec_for("cache_dit").engine
    assert other == ("cache_dit" if home else engines[0])


def test_claims_are_those_of_the_view(tmp_path: Path) -> None:
    text = (
        HOME + SECTION.replace("class", "x") + "  vllm_omni: {transformers: {transformer: null}}\n"
    )
    adapter = read(tmp_path, text)

    def claims(what: str, engine: str) -> list[tuple[str, object]]:
        return [(item.name, item.path) for item in adapter.claims(what, engine)]

    assert claims("pipeline", "diffusers") == [("HomePipeline", ("pipelines", 0))]
    there = ("engines", "sglang", "pipelines", 0)
    assert claims("pipeline", "sglang") == [("TheirPipeline", there)]
    assert claims("pipeline", "vllm_omni") == [("HomePipeline", ("pipelines", 0))]
    mine = ("transformers", "transformer", "class", 0)
    assert claims("transformer", "sglang") == [("HomeTransformer", mine)]
    assert claims("transformer", "vllm_omni") == []


def test_an_engine_may_refuse(tmp_path: Path) -> None:
    adapter = read(tmp_path, HOME + "engines: {sglang: {refuse: it never calls them}}\n")
    assert errors(adapter) == []
    assert adapter.spec_for("diffusers").refuse is None
    refused = adapter.spec_for("sglang")
    assert refused.refuse == "it never calls them"
    assert refused.transformers["transformer"].transformer_class == ("HomeTransformer",)
    assert (refused.step_split, given(refused), refused.profiles) == (None, {}, {})


def test_an_engine_may_cache_what_others_refuse(tmp_path: Path) -> None:
    text = """\
schema: 1
pipelines: [A]
refuse: not in diffusers
engines: {sglang: {refuse: null, transformers: {t: {blocks: {b: Pattern_1}}}}}
"""
    adapter = read(tmp_path, text)
    assert errors(adapter) == []
    assert adapter.spec_for("diffusers").refuse == "not in diffusers"
    assert set(adapter.spec_for("sglang").transformers) == {"t"}
    assert set(adapter.spec_for("sglang").profiles) == {"fast"}


# --- with extends ---


def test_sections_of_what_is_extended(tmp_path: Path) -> None:
    child = """\
schema: 1
extends: base.yaml
cache: {max_cached_steps: 5}
engines: {sglang: {cache: {Fn_compute_blocks: 3}}, vllm_omni: {}}
"""
    adapter = read(tmp_path, child, base=HOME + SECTION)
    # What it serves is not inherited, how is.
    assert adapter.engines == ("vllm_omni", "sglang")
    spec = adapter.spec_for("sglang")
    assert spec.pipelines == ()
    assert spec.probe is None
    assert spec.step_split is None
    assert set(spec.transformers["transformer"].blocks or {}) == {"b", "c"}
    # The base's section, then the child, then the child's section.
    assert given(spec)["max_cached_steps"] == 5
    assert given(spec)["Fn_compute_blocks"] == 3
    assert spec.places[("transformers", "transformer", "blocks", "c")] == "base.yaml:17"
    assert adapter.spec_for("vllm_omni").step_split is not None


def test_a_kind_is_inherited(tmp_path: Path) -> None:
    child = "schema: 1\nextends: base.yaml\npipelines: [C]\n"
    spec = read(tmp_path, child, base=HOME + "kind: video\n").spec_for()
    assert (spec.kind, spec.cache.residual_diff_threshold) == ("video", 0.3)


# --- null ---


@pytest.mark.parametrize(
    ("child", "gone"),
    [
        ("step_split: null", lambda spec: spec.step_split is None),
        ("cache: null", lambda spec: given(spec) == {}),
        ("steps: null", lambda spec: spec.steps == ()),
        ("profiles: {fast: null}", lambda spec: "fast" not in spec.profiles),
        ("transformers: {transformer: {class: null}}",
         lambda spec: spec.transformers["transformer"].transformer_class is None),
        ("transformers: {transformer: {blocks: {b: null}}}",
         lambda spec: set(spec.transformers["transformer"].blocks) == {"a"}),
        ("transformers: {transformer: {blocks: {b: {params: null}}}}",
         lambda spec: spec.transformers["transformer"].blocks["b"].params is None),
    ],
)  # fmt: skip
def test_null_takes_away_what_is_inherited(tmp_path: Path, child: str, gone: Any) -> None:
    text = f"schema: 1\nextends: base.yaml\npipelines: [C]\n{child}\n"
    extended = read(tmp_path, text, base=HOME)
    assert errors(extended) == []
    assert gone(extended.spec_for())
    section = read(tmp_path, HOME + f"engines: {{sglang: {{{child}}}}}\n")
    assert errors(section) == []
    assert gone(section.spec_for("sglang"))
    assert not gone(section.spec_for("diffusers"))


def test_null_takes_away_a_profile_of_the_defaults(tmp_path: Path) -> None:
    adapter = read(tmp_path, HOME + "profiles: {fast: null, mine: {scm: fast}}\n")
    assert set(adapter.spec_for().profiles) == {"mine"}


def test_null_of_a_setting_is_a_value(tmp_path: Path) -> None:
    base = HOME.replace("Fn_compute_blocks: 2", "scm: fast")
    text = "schema: 1\nextends: base.yaml\npipelines: [C]\ncache: {scm: null}\n"
    spec = read(tmp_path, text, base=base).spec_for()
    assert given(spec)["scm"] is None
    wrong = read(tmp_path, text.replace("scm", "Fn_compute_blocks"), base=HOME)
    assert ["wrong-type" in item for item in errors(wrong)] == [True]


@pytest.mark.parametrize("key", ["cache", "steps", "profiles", "step_split", "transformers"])
def test_null_that_takes_nothing_away_is_a_slip(tmp_path: Path, key: str) -> None:
    text = "schema: 1\npipelines: [A]\n"
    if key != "transformers":
        text += "transformers: {t: {blocks: {b: Pattern_1}}}\n"
    found = errors(read(tmp_path, f"{text}{key}:\n"))
    assert found
    assert f"'{key}' has no value" in found[0] or "names no transformers" in found[0]


def test_a_setting_of_a_shorthand_may_change(tmp_path: Path) -> None:
    text = (
        HOME + "engines: {sglang: {transformers: {transformer: {blocks: {a: {optional: true}}}}}}\n"
    )
    blocks = read(tmp_path, text).spec_for("sglang").transformers["transformer"].blocks or {}
    assert (blocks["a"].pattern, blocks["a"].optional) == ("Pattern_0", True)


# --- measured ---

MEASURED = "measured: {model: org/home, steps: 20, psnr: {pooled: 30.5}, date: '2026-11-28'}"


def test_measured_is_read_and_changes_nothing(tmp_path: Path) -> None:
    text = HOME.replace("cache: {", f"cache: {{{MEASURED}, ")
    text += f"profiles: {{fast: {{{MEASURED}, residual_diff_threshold: 0.2}}}}\n"
    spec = read(tmp_path, text).spec_for()
    for settings in (spec.cache, spec.profiles["fast"]):
        assert settings.measured is not None
        assert (settings.measured.model, settings.measured.steps) == ("org/home", 20)
        assert settings.measured.psnr is not None
        assert settings.measured.psnr.pooled == 30.5
        assert "measured" not in dict(settings.given())


@pytest.mark.parametrize(
    ("over", "kept"),
    [
        ("{}", True),
        ("{description: another word}", True),
        ("{residual_diff_threshold: 0.2}", True),  # as it is already
        ("{residual_diff_threshold: 0.25}", False),
        ("{max_warmup_steps: 1}", False),
        ("{lists: {a: {scm: fast}}}", False),
        ("{measured: null}", False),
        ("{max_warmup_steps: 1, measured: {model: other, steps: 4}}", True),
    ],
)
def test_measured_goes_with_what_it_was_measured_with(
    tmp_path: Path, over: str, kept: bool
) -> None:
    text = HOME + f"profiles: {{fast: {{{MEASURED}, residual_diff_threshold: 0.2}}}}\n"
    text += f"engines: {{sglang: {{profiles: {{fast: {over}}}}}}}\n"
    adapter = read(tmp_path, text)
    assert errors(adapter) == []
    assert adapter.spec_for().profiles["fast"].measured is not None
    assert (adapter.spec_for("sglang").profiles["fast"].measured is not None) == kept
    if not kept:
        assert ("profiles", "fast", "measured", "model") not in adapter.spec_for("sglang").places


# --- what is wrong ---


def test_findings_in_a_section_say_where(tmp_path: Path) -> None:
    text = HOME + "engines:\n  sglang:\n    cache: {max_warmup_steps: many}\n    oops: 1\n"
    adapter = read(tmp_path, text)
    found = {item.key_path: item for item in adapter.diagnostics}
    assert found[("engines", "sglang", "cache", "max_warmup_steps")].code == "wrong-type"
    assert found[("engines", "sglang", "oops")].code == "unknown-key"
    assert len(found) == 2
    with pytest.raises(AdapterError, match="many"):
        adapter.spec_for("sglang")


def test_what_is_wrong_for_all_engines_is_said_once(tmp_path: Path) -> None:
    text = HOME.replace("Fn_compute_blocks: 2", "Fn_compute_blocks: few") + SECTION
    assert len(errors(read(tmp_path, text))) == 1


@pytest.mark.parametrize(
    ("engines", "says"),
    [
        ("[sglang]", "'engines' is a list"),
        ("{sglnag: {}}", "'sglnag'"),
        ("{sglang: }", "'sglang'"),
        ("{sglang: {schema: 1}}", "'schema'"),
        ("{sglang: {extends: flux}}", "'extends'"),
        ("{sglang: {kind: video}}", "'kind'"),
        ("{sglang: {engines: {}}}", "'engines'"),
    ],
)
def test_sections_that_cannot_be(tmp_path: Path, engines: str, says: str) -> None:
    found = errors(read(tmp_path, HOME + f"engines: {engines}\n"))
    assert len(found) == 1
    assert says in found[0]
