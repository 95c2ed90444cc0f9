"""``list``, ``show`` and ``schema``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cachedit_yaml.cli import main
from cachedit_yaml.cli.output import table
from cachedit_yaml.language.schemas import KINDS, schema_path
from cachedit_yaml.registry.registry import Registry

WAN = """\
schema: 1
name: my-wan
description: two transformers
pipelines: [MyPipeline, OtherPipeline, ThirdPipeline, FourthPipeline]
models: [org/my]
requires: {cache-dit: '>=1.5'}
cache: {max_warmup_steps: 4, scm: ~}
steps: [{max_steps: 8, max_warmup_steps: 1}]
transformers:
  transformer:
    class: [MyTransformer]
    variants:
      - {class: [MyOtherTransformer], blocks: {layers: Pattern_3}}
    blocks: {blocks: Pattern_2}
  transformer_2:
    optional: true
    params: {Fn_compute_blocks: 2}
    blocks: {blocks: {pattern: Pattern_2, optional: true, params: {max_cached_steps: 20}}}
step_split: {boundary: {ratio: 0.9, high: transformer, low: transformer_2}}
guidance: separate
set: {_cache_dit_paired: true}
profiles:
  fast: {scm: {mask: [1, 0]}, residual_diff_threshold: 0.3}
"""
REFUSED = "schema: 1\npipelines: [NoPipeline]\nrefuse: it would not help\n"


@pytest.fixture
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CACHEDIT_YAML_PATH", raising=False)
    (tmp_path / "wan.yaml").write_text(WAN)
    (tmp_path / "no.yaml").write_text(REFUSED)
    return tmp_path


def test_list(adapters: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--adapters", str(adapters)]) == 0
    lines = capsys.readouterr().out.splitlines()
    # Into a pipe, nothing is padded.
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in lines[:-2]}
    assert rows["NAME"] == ["SOURCE", "ENGINES", "MEASURED", "BLOCK LISTS", "PIPELINES"]
    assert rows["my-wan"] == [
        "argument",
        "diffusers,cache_dit",
        "-",
        "transformer.layers:3, transformer.blocks:2, transformer_2.blocks:2",
        "MyPipeline, OtherPipeline, ThirdPipeline and 1 more",
    ]
    assert rows["no"][3] == "(refused)"
    assert lines[-1] == f"{len(Registry.load(environ={}).entries) + 2} adapters"


def test_list_with_a_broken_adapter(adapters: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (adapters / "broken.yaml").write_text("schema: 1\noops: 1\n")
    assert main(["--adapters", str(adapters), "list"]) == 1
    out = capsys.readouterr().out
    assert "(broken)" in out
    assert "1 broken; see 'cachedit-yaml validate'" in out
    assert main(["--adapters", str(adapters), "list", "--format", "json"]) == 1
    by_name = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert "oops: unknown key 'oops'" in by_name["broken"]["problems"]
    assert by_name["my-wan"]["lists"]["transformer.layers"] == "Pattern_3"
    assert by_name["no"]["refuse"] == "it would not help"


def test_show(adapters: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--adapters", str(adapters), "show", "my-wan"]) == 0
    out = capsys.readouterr().out
    summary, file = out.split("\n--- ")
    assert summary.splitlines()[0] == "my-wan: two transformers"
    for line in (
        "  requires:   cache-dit >=1.5",
        "  transformer = MyTransformer",
        "    when MyOtherTransformer:",
        "      layers: Pattern_3",
        "    blocks: Pattern_2",
        "  transformer_2 (optional)  {Fn_compute_blocks: 2}",
        "    blocks: Pattern_2 (optional)  {max_cached_steps: 20}",
        "steps divide by: {boundary: {ratio: 0.9, high: transformer, low: transformer_2}}",
        "guidance: {mode: separate}",
        "cache: {Fn_compute_blocks: 1, residual_diff_threshold: 0.12, max_warmup_steps: 4, "
        "max_continuous_cached_steps: 3, scm: null}",
        "cache up to 8 steps: {max_warmup_steps: 1}",
        "profile fast: {residual_diff_threshold: 0.3, max_continuous_cached_steps: 6, "
        "scm: {mask: [1, 0]}, calibrator: {type: taylorseer}}",
        "sets on the pipeline: {_cache_dit_paired: true}",
    ):
        assert line in summary.splitlines()
    assert WAN.rstrip() in file


def test_show_by_class_and_by_file(adapters: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("OtherPipeline", "MyOtherTransformer", str(adapters / "wan.yaml")):
        assert main(["--adapters", str(adapters), "show", name]) == 0
        assert capsys.readouterr().out.startswith("my-wan: ")
    assert main(["--adapters", str(adapters), "show", "no"]) == 0
    assert "  refuses:    it would not help" in capsys.readouterr().out


def test_show_what_is_not_there(adapters: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--adapters", str(adapters), "show", "my-wann"]) == 2
    assert "nearest: my-wan" in capsys.readouterr().err
    assert main(["--adapters", str(adapters), "show", "MyPipelin"]) == 2
    assert "nearest: MyPipeline" in capsys.readouterr().err


def test_show_a_broken_adapter(adapters: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (adapters / "broken.yaml").write_text("schema: 1\noops: 1\n")
    assert main(["--adapters", str(adapters), "show", "broken"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "   2 | oops: 1\n     | ^^^^" in captured.err


def test_show_as_data_can_be_loaded(adapters: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--adapters", str(adapters), "show", "my-wan", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data.pop("source") == str(adapters / "wan.yaml")
    assert data.pop("engine") == "diffusers"
    found = Registry.load(extra=[adapters], environ={})
    assert found.get(data) == found.get("my-wan")


@pytest.mark.parametrize("kind", KINDS)
def test_schema(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["schema"] if kind == "adapter" else ["schema", "--for", kind]
    assert main(arguments) == 0
    assert capsys.readouterr().out == schema_path(kind).read_text(encoding="utf-8")
    assert main([*arguments, "--path"]) == 0
    assert capsys.readouterr().out.strip() == str(schema_path(kind))


def test_table() -> None:
    assert table([["a", "b"], ["ccc", ""]], ["X", "Y"]) == ["X    Y", "a    b", "ccc"]
