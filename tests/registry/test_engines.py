"""Which adapter serves an engine that asks, and as what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import cachedit_yaml
from cachedit_yaml.errors import AdapterConflictError, AdapterError, AdapterNotFoundError
from cachedit_yaml.language import defaults
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.registry.search_path import Source
from cachedit_yaml.rules.load import Adapter
from cachedit_yaml.yaml import reader
from tests import tiny

LISTS = "blocks: {b: Pattern_1}"


def text(more: str, transformer: str = "T", blocks: str = LISTS) -> str:
    head = f"schema: 1\ntransformers: {{t: {{class: [{transformer}], {blocks}}}}}\n"
    return f"{head}{more}\n"


def registry(*roots: Path, **files: str) -> Registry:
    """A registry of some folders, the weakest first; the files are written into the last."""
    for name, content in files.items():
        target = roots[-1] / f"{name.replace('__', '/')}.yaml"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    return Registry([Source("argument", rank, root, "argument") for rank, root in enumerate(roots)])


def served(found: Registry, name: str, engine: str | None, what: str = "pipeline") -> str:
    match = (found.match_pipeline if what == "pipeline" else found.match_transformer)(name, engine)
    assert match.engine == match.spec.engine
    return f"{match.entry.name} as {match.engine}"


def test_a_section_comes_first_then_home_then_what_is_for_others(tmp_path: Path) -> None:
    home = text("pipelines: [P]")
    theirs = text("engines: {sglang: {pipelines: [P]}}")
    found = registry(tmp_path, home=home, theirs=theirs)
    assert served(found, "P", "sglang") == "theirs as sglang"
    assert served(found, "P", "vllm_omni") == "home as vllm_omni"
    assert served(found, "P", "diffusers") == "home as diffusers"
    assert served(found, "P", None) == "home as diffusers"
    (tmp_path / "home.yaml").unlink()
    found = registry(tmp_path)
    match = found.match_pipeline("P", "vllm_omni")
    assert (match.engine, match.asked) == ("sglang", "vllm_omni")
    assert match.note == "theirs is made for sglang, not for vllm_omni"


def test_a_stronger_source_comes_before_a_section(tmp_path: Path) -> None:
    weak, strong = tmp_path / "weak", tmp_path / "strong"
    registry(weak, a=text("engines: {sglang: {pipelines: [P]}}"))
    found = registry(weak, strong, b=text("pipelines: [P]"))
    assert served(found, "P", "sglang") == "b as sglang"
    assert [entry.name for entry in found.match_pipeline("P", "sglang").overridden] == ["a"]


def test_an_engine_has_its_own_pipelines(tmp_path: Path) -> None:
    found = registry(tmp_path, a=text("pipelines: [P, Q]\nengines: {sglang: {pipelines: [R]}}"))
    assert served(found, "R", "sglang") == "a as sglang"
    assert served(found, "Q", "vllm_omni") == "a as vllm_omni"
    for name, engine in (("Q", "sglang"), ("R", "vllm_omni"), ("R", None)):
        with pytest.raises(AdapterNotFoundError):
            found.match_pipeline(name, engine)


def test_names_with_an_engine(tmp_path: Path) -> None:
    found = registry(tmp_path, a=text("pipelines: [P]\nengines: {sglang: {models: [x/y]}}"))
    for name in ("sglang/a", "sglang/a"):
        assert found.get(name).models == ("x/y",)
    assert found.get("a", "sglang").engine == "sglang"
    assert found.get("a").engine == "diffusers"
    assert found.get("vllm-omni/a").engine == found.get("vllm_omni/a").engine == "vllm_omni"
    assert found.find("sglang/a") is found.entry("a")
    assert found.get(tmp_path / "a.yaml", "sglang").models == ("x/y",)
    assert found.get(text("engines: {sglang: {models: [x/y]}}")).engine == "sglang"


def test_labels_name_the_engine_of_what_is_for_it_only(tmp_path: Path) -> None:
    found = registry(
        tmp_path, a=text("pipelines: [P]\nengines: {sglang: {}}"), b=text("engines: {sglang: {}}")
    )
    assert [entry.label for entry in found.adapters()] == ["a", "sglang/b"]
    assert [entry.engines for entry in found.adapters()] == [
        ("diffusers", "cache_dit", "sglang"),
        ("sglang",),
    ]


# --- conflicts ---


def test_conflicts_are_those_of_one_engine(tmp_path: Path) -> None:
    found = registry(
        tmp_path,
        home=text("pipelines: [P]"),
        one=text("engines: {sglang: {pipelines: [P]}}"),
        two=text("engines: {vllm_omni: {pipelines: [P]}, sglang: {pipelines: [Q, P]}}"),
    )
    (item,) = found.conflicts()
    assert item.message == f"the pipeline class 'P' is taken by {tmp_path / 'one.yaml'}"
    assert item.key_path == ("engines", "sglang", "pipelines", 1)
    assert item.span is not None
    assert (Path(item.span.path).name, item.span.line, item.span.column) == ("two.yaml", 3, 64)
    with pytest.raises(AdapterConflictError, match=r"one\.yaml:3:32\n.*two\.yaml:3:64"):
        found.match_pipeline("P", "sglang")
    assert served(found, "P", "vllm_omni") == "two as vllm_omni"
    assert served(found, "P", "diffusers") == "home as diffusers"


def test_two_adapters_of_one_name(tmp_path: Path) -> None:
    found = registry(tmp_path, a=text("name: n\npipelines: [P]"), b=text("name: n\npipelines: [Q]"))
    (item,) = found.conflicts()
    assert "the adapter name 'n' is taken by" in item.message
    with pytest.raises(AdapterConflictError, match=r"a\.yaml:3:7\n.*b\.yaml:3:7"):
        found.get("n")


# --- transformers that several adapters have ---


def test_one_of_several_with_the_same_layout_serves_it_and_says_so(tmp_path: Path) -> None:
    more = "schema: 1\npipelines: [B]\ntransformers: {t: {class: [T], blocks: {b: Pattern_1}}, "
    found = registry(
        tmp_path,
        c=text("pipelines: [C]\ncache: {max_warmup_steps: 1}"),
        b=more + "u: {class: [U], blocks: {b: Pattern_2}}}\n",
        d=text("pipelines: [D]"),
    )
    match = found.match_transformer("T")
    # The one with the fewest others, then by name; settings make no other layout.
    assert match.entry.name == "c"
    assert [entry.name for entry in match.alike] == ["d", "b"]
    assert match.note == "d, b would cache T in the same way"
    assert match.spec.cache.max_warmup_steps == 1
    assert found.match_transformer("U").alike == []
    assert found.conflicts() == []


@pytest.mark.parametrize(
    "blocks",
    [
        "blocks: {b: Pattern_2}",
        "blocks: {b: Pattern_1, c: Pattern_1}",
        "blocks: {b: Pattern_1}, denoising: {when: {x: 1}}",
        "blocks: {b: Pattern_1}, timestep: t",
        "variants: [{when: transformer.x, blocks: {c: Pattern_1}}], blocks: {b: Pattern_1}",
    ],
)
def test_layouts_that_differ_are_a_conflict(tmp_path: Path, blocks: str) -> None:
    found = registry(tmp_path, a=text("pipelines: [A]"), b=text("pipelines: [B]", blocks=blocks))
    with pytest.raises(AdapterConflictError, match="claim the transformer class 'T'"):
        found.match_transformer("T")
    # Pipelines rightly share a transformer; adapters without any have nothing to tell them apart.
    assert found.conflicts() == []
    found = registry(tmp_path, a=text(""), b=text("", blocks=blocks))
    assert ["'T' is taken" in item.message for item in found.conflicts()] == [True]


def test_a_transformer_that_only_a_refusal_has_is_refused(tmp_path: Path) -> None:
    refusal = "schema: 1\npipelines: [A]\ntransformers: {t: {class: [T]}}\nrefuse: it has no loop\n"
    found = registry(tmp_path, a=refusal)
    assert found.entries[0].diagnostics == []
    assert found.match_transformer("T").spec.refuse == "it has no loop"
    # Beside one that caches it, it is about its pipelines.
    found = registry(tmp_path, b=text("pipelines: [B]"))
    match = found.match_transformer("T")
    assert (match.entry.name, match.alike) == ("b", [])


def test_a_refused_transformer_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch import nn

    class Lonely(nn.Module):
        pass

    (tmp_path / "a.yaml").write_text(
        "schema: 1\npipelines: [A]\ntransformers: {t: {class: [Lonely]}}\nrefuse: it has no loop\n"
    )
    monkeypatch.setenv("CACHEDIT_YAML_PATH", str(tmp_path))
    with pytest.raises(cachedit_yaml.RefusedError, match="it has no loop"):
        cachedit_yaml.enable_transformer(Lonely())


# --- probes ---

PROBES = """\
schema: 1
diffusers: {forward: {x: 1}}
sglang: {forward: {x: 2}}
"""


def test_probes_lie_beside_the_adapters(tmp_path: Path) -> None:
    a = text("pipelines: [P]\nengines: {sglang: {}, vllm_omni: {probe: {forward: {x: 3}}}}")
    found = registry(tmp_path, a=a, b=text("pipelines: [Q]"), probes__a=PROBES)
    assert [entry.name for entry in found.adapters()] == ["a", "b"]
    entry = found.entry("a")
    probes = {name: entry.probe(name) for name in entry.engines}
    assert {name: probe and probe.forward for name, probe in probes.items()} == {
        "diffusers": {"x": 1},
        "cache_dit": {"x": 1},
        "vllm_omni": {"x": 3},
        "sglang": {"x": 2},
    }
    assert found.entry("b").probe() is None
    assert entry.spec.probe is None
    assert entry.with_probe().probe == probes["diffusers"]
    # cache-dit runs diffusers' pipelines.
    assert [spec.engine for spec in entry.to_prove()] == ["diffusers", "vllm_omni", "sglang"]
    assert [spec.engine for spec in entry.to_prove("sglang")] == ["sglang"]


def test_an_own_probe_wins(tmp_path: Path) -> None:
    a = text("pipelines: [P]\nprobe: {forward: {x: 9}}")
    found = registry(tmp_path, a=a, probes__a=PROBES)
    probe = found.entry("a").probe()
    assert probe is not None
    assert probe.forward == {"x": 9}


@pytest.mark.parametrize(
    "content", ["- 1\n", "schema: 1\noops: 1\n", "schema: 1\ndiffusers: {forward: 1}\n"]
)
def test_a_wrong_probe_stops_only_who_wants_it(tmp_path: Path, content: str) -> None:
    found = registry(tmp_path, a=text("pipelines: [P]"), probes__a=content)
    entry = found.match_pipeline("P").entry
    assert entry.diagnostics == []
    with pytest.raises(AdapterError, match=r"probes.a\.yaml"):
        entry.with_probe()


# --- how much is read ---


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were parsed, in order; looking for a word in a text is no parsing."""
    names: list[str] = []
    read = reader.read_text

    def note(source: str | bytes, name: str, path: Path | None = None) -> Any:
        names.append(Path(name).name)
        return read(source, name, path)

    monkeypatch.setattr(reader, "read_text", note)
    # What an earlier test has read counts anew.
    defaults._read.cache_clear()
    defaults._merged.cache_clear()
    return names


def test_enabling_parses_one_file_and_the_defaults(
    opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tiny.build("PixArtAlphaPipeline")
    monkeypatch.setattr("cachedit_yaml.registry.registry._LAST", None)
    defaults._read.cache_clear()
    defaults._merged.cache_clear()
    del opened[:]
    cachedit_yaml.enable(pipe).disable()
    assert sorted(opened) == ["defaults.yaml", "pixart.yaml"]
    del opened[:]
    cachedit_yaml.enable(pipe, "pixart").disable()
    assert opened == []


def test_an_adapter_is_read_with_what_it_extends_and_no_other(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    child = "schema: 1\nextends: base\npipelines: [C]\nengines: {sglang: {}}\n"
    (tmp_path / "base.yaml").write_text(text("pipelines: [B]"))
    (tmp_path / "child.yaml").write_text(child)
    (tmp_path / "other.yaml").write_text(text("pipelines: [O]"))
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes" / "child.yaml").write_text(PROBES)
    monkeypatch.setenv("CACHEDIT_YAML_PATH", str(tmp_path))
    for engine in (None, "sglang"):
        Registry.load().match_pipeline("C", engine)
    assert sorted(opened) == ["base.yaml", "child.yaml", "defaults.yaml"]
    Registry.load().entry("child").with_probe("sglang")
    assert sorted(opened) == ["base.yaml", "child.yaml", "child.yaml", "defaults.yaml"]


def test_a_file_is_checked_for_the_engine_that_asks_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views: list[str] = []
    merged = Adapter.merged

    def note(self: Adapter, engine: str | None = None) -> Any:
        views.append(engine or "")
        return merged(self, engine)

    monkeypatch.setattr(Adapter, "merged", note)
    found = registry(tmp_path, a=text("pipelines: [P]\nengines: {sglang: {}, vllm_omni: {}}"))
    for _ in range(2):
        found.match_pipeline("P", "sglang")
    assert views == ["sglang"]
