"""``doctor``: it says what is true of this environment, and what to do."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from cachedit_yaml.cli import diagnosis, main
from cachedit_yaml.cli.diagnosis import LIBRARIES, look_at_plugin
from cachedit_yaml.engines import engines, find_engine
from tests import processes

ROOT = Path(__file__).resolve().parents[2]
MINE = (
    "schema: 1\npipelines: [{name}]\ntransformers: {{transformer: {{blocks: {{a: Pattern_3}}}}}}\n"
)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CACHEDIT_YAML_PATH", raising=False)
    monkeypatch.delenv("VLLM_PLUGINS", raising=False)


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(list(arguments))
    return code, capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    found = json.loads(doctor(capsys, "doctor", "--format", "json", *arguments)[1])
    assert isinstance(found, dict)
    return found


@pytest.mark.libraries
def test_a_pipeline_of_diffusers(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = doctor(capsys, "doctor", "--pipeline", "FluxPipeline")
    assert code == 0, out
    assert re.search(r"cache-dit +1\.\S+ +tested", out)
    assert "flux serves it: it names the class" in out
    assert "pipe = cachedit_yaml.from_pretrained('MODEL', 'flux')" in out


def test_why_another_does_not_serve_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "home.yaml").write_text(MINE.format(name="XPipeline"))
    theirs = (tmp_path / "home.yaml").read_text()
    section = "engines: {vllm_omni: {pipelines: [XPipeline]}}"
    (tmp_path / "theirs.yaml").write_text(theirs.replace("pipelines: [XPipeline]", section))
    _, out = doctor(capsys, "--adapters", str(tmp_path), "doctor", "--pipeline", "XPipeline")
    assert "home serves it" in out
    assert "not vllm_omni/theirs: made for vllm_omni" in out


def test_the_versions_are_those_that_the_tests_pin() -> None:
    pins: dict[str, set[str]] = {}
    for path in (ROOT / ".ci").glob("*.txt"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if found := re.match(r"([\w.-]+)==([\w.]+)", line):
                pins.setdefault(found[1].lower().replace("_", "-"), set()).add(found[2])
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert len(engines()) == 4
    known = {item.distribution: (item.supported, item.tested) for item in engines()}
    known |= {name: (supported, tested) for name, (supported, tested, _) in LIBRARIES.items()}
    for name, (supported, tested) in known.items():
        assert set(tested) == pins.get(name, set()), name
        assert not supported or f'"{name}{supported}"' in declared


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("1.5.3", "tested"),
        ("1.5.3+cpu", "tested"),
        ("1.5.4", "newer than tested"),
        ("1.5.2", "not tested"),
        ("1.6.0", "not supported"),
        (None, "not installed"),
    ],
)
def test_what_is_said_of_a_version(
    version: str | None, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = None if version is None else Version(version)
    monkeypatch.setattr(diagnosis, "installed_version", lambda name: found)
    said = {item.name: item for item in diagnosis.installed()}
    assert said["cache-dit"].state == state
    assert (said["cache-dit"].problem is not None) == (state in ("not supported", "not installed"))
    assert list(said) == ["torch", "transformers", "diffusers", "cache-dit", "vllm-omni", "sglang"]


@pytest.mark.libraries
def test_one_of_mine_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text(MINE.format(name="FluxPipeline"))
    code, out = doctor(capsys, "--adapters", str(tmp_path), "doctor", "--pipeline", "FluxPipeline")
    assert code == 0, out
    assert "mine serves it" in out
    assert re.search(r"not flux: .*mine\.yaml \(argument\) comes before shipped", out)
    assert f"1 argument: {tmp_path}" in out


def test_the_line_that_it_prints_works_for_a_file_of_mine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(MINE.format(name="FluxPipeline"))
    arguments = ("--adapters", str(mine), "doctor", "--pipeline", "FluxPipeline")
    assert f"from_pretrained('MODEL', '{mine}')" in doctor(capsys, *arguments)[1]
    for engine, line in (
        ("vllm-omni", f'\'{{"adapter": "{mine}"}}\''),
        ("sglang", f"--cache-dit-config {mine}"),
        ("cache_dit", f"cachedit_yaml.install(adapters=['{mine}'])"),
    ):
        assert line in doctor(capsys, *arguments, "--engine", engine)[1]


@pytest.mark.libraries
def test_a_class_that_nobody_serves_and_a_file_that_does_not_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text("schema: 1\npipelines: [X]\ntransfomers: {}\n")
    code, out = doctor(capsys, "--adapters", str(tmp_path), "doctor", "--pipeline", "FluxPipelin")
    assert code == 1
    assert "no adapter for the pipeline class 'FluxPipelin'" in out
    assert "FluxPipeline" in out
    assert re.search(r"mine\.yaml does not load: .*names no transformers", out)
    assert "2 problems" in out
    assert "config for" not in out  # nothing would serve it


def test_an_adapter_that_is_made_for_another_engine(capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, "--pipeline", "LTX2TwoStagesPipeline")
    assert found["choice"]["why"] == (
        "it names the class; it is made for vllm_omni, whose class of this name may be another"
    )


@pytest.mark.libraries
def test_a_class_whose_base_has_an_adapter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(MINE.format(name="StableDiffusionMixin"))
    found = as_json(capsys, "--pipeline", "StableDiffusionPipeline")
    assert found["choice"]["adapter"] is None
    code, out = doctor(
        capsys, "--adapters", str(tmp_path), "doctor", "--pipeline", "StableDiffusionPipeline"
    )
    assert code == 0, out
    assert "mine serves it: its base class 'StableDiffusionMixin' fits" in out


@pytest.mark.libraries
def test_vllm_omni(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "Wan22Pipeline"}')
    found = as_json(capsys, "--model", str(tmp_path), "--engine", "vllm-omni")
    assert found["choice"]["adapter"] == "wan"
    assert f"vllm-omni serve {tmp_path} --omni --cache-backend cache_dit" in found["snippet"]
    assert '{"adapter": "wan"}' in found["snippet"]
    assert found["choice"]["modes"] == "step execution: the engine has none for this pipeline"
    found = as_json(capsys, "--pipeline", "BagelPipeline", "--engine", "vllm-omni")
    assert "each request has a cache of its own" in found["choice"]["modes"]
    # For diffusers' own class nobody has tried it on the engine's.
    found = as_json(capsys, "--pipeline", "HunyuanVideoPipeline", "--engine", "vllm-omni")
    assert found["choice"]["adapter"] is None
    assert "unless cache_config names one: adapter: hunyuan-video" in found["choice"]["why"]
    monkeypatch.setenv("VLLM_PLUGINS", "other")
    says, problem = look_at_plugin(find_engine("vllm_omni").plugin)
    assert "not allowed by VLLM_PLUGINS=other" in says
    assert problem is not None
    assert "add cachedit_yaml" in problem
    monkeypatch.setenv("VLLM_PLUGINS", "other, cachedit_yaml")
    assert look_at_plugin(find_engine("vllm_omni").plugin)[1] is None


@pytest.mark.parametrize("engine", ["diffusers", "cache_dit", "vllm_omni", "sglang"])
def test_what_is_pasted_works_whatever_the_path(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'it\'s "mine".yaml'
    path.write_text((ROOT / "adapters" / "flux.yaml").read_text(encoding="utf-8"))
    more = ("--pipeline", "FluxPipeline", "--engine", engine)
    _, out = doctor(capsys, "--adapters", str(path), "doctor", "--format", "json", *more)
    snippet = json.loads(out)["snippet"]
    if engine in ("diffusers", "cache_dit"):
        # Python, which holds the path as it is.
        assert any(
            isinstance(node, ast.Constant) and node.value == str(path)
            for node in ast.walk(ast.parse(snippet))
        )
    else:
        words = shlex.split(snippet, comments=True)
        assert json.dumps({"adapter": str(path)}) in words or f"CACHEDIT_YAML_PATH={path}" in words


def test_sglang(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = as_json(capsys, "--engine", "sglang")
    assert "SGLANG_CACHE_DIT_ENABLED=true" in found["snippet"]
    found = as_json(capsys, "--engine", "sglang", "--pipeline", "Krea2Pipeline")
    assert found["choice"]["adapter"] == "krea-2"
    assert "SGLANG_CACHE_DIT_ENABLED=true" in found["snippet"]
    # What is made for diffusers' class serves SGLang's diffusers back end.
    found = as_json(capsys, "--engine", "sglang", "--pipeline", "LattePipeline")
    assert found["choice"]["adapter"] == "latte"
    assert "diffusers back end" in found["choice"]["why"]
    assert "--backend diffusers" in found["snippet"]
    assert f"--cache-dit-config {ROOT / 'adapters' / 'latte.yaml'}" in found["snippet"]
    # In an environment that was set up before the plugin existed, that is what it says.
    assert "registered" in found["plugin"]
    monkeypatch.setenv("SGLANG_PLUGINS", "")
    assert "not allowed" not in look_at_plugin(find_engine("sglang").plugin)[0]


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_a_folder_that_is_no_pipeline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    if content is not None:
        (tmp_path / "model_index.json").write_text(content)
    assert main(["doctor", "--model", str(tmp_path)]) == 2
    assert "model_index.json" in capsys.readouterr().err


def test_a_refusal_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    _, out = doctor(capsys, "doctor", "--pipeline", "AnyFlowFARPipeline")
    assert "anyflow-far serves it: it names the class; it refuses to be cached:" in out


# That a class is not diffusers' either, its index tells.
@pytest.mark.parametrize("pipeline", ["FluxPipeline", "NobodysPipeline"])
def test_it_imports_nothing_heavy(pipeline: str) -> None:
    arguments = ["doctor", "--pipeline", pipeline, "--engine", "vllm-omni"]
    _, imported = processes.heavy(f"from cachedit_yaml.cli import main; main({arguments})")
    assert imported == ["importlib.metadata"]  # it says which versions there are
