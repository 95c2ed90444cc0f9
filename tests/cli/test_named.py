"""Every command that takes an adapter takes it by name, class, file, engine or from stdin."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from cachedit_yaml.cli import main

MINE = """\
schema: 1
name: mine
pipelines: [{0}Pipeline]
transformers: {{transformer: {{class: [{0}Transformer], blocks: {{blocks: Pattern_3}}}}}}
engines: {{sglang: {{pipelines: [{0}Other]}}}}
"""
ONE = ("show", "explain")
MANY = ("validate", "list", "check", "coverage")
#: These make models.
MAKES = {"check", "coverage"}


def commands(*names: str) -> list[Any]:
    """Commands as parameters, those that need the libraries marked."""
    return [
        pytest.param(name, marks=pytest.mark.libraries) if name in MAKES else name for name in names
    ]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CACHEDIT_YAML_PATH", str(tmp_path / "found"))
    for name, cls in (("found", "My"), ("other", "Your")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.yaml").write_text(MINE.format(cls).replace("mine", name))
    return tmp_path


def say(command: str, target: str, *more: str) -> tuple[int, str]:
    """Run a command so that it looks at nothing but what is named."""
    if command == "coverage":
        more = (*more, "--no-proof")
    return main([command, target, *more]), target


@pytest.mark.parametrize("command", commands(*ONE, *MANY))
@pytest.mark.parametrize(
    "target",
    ["found", "sglang/found", "MyPipeline", "MyTransformer", "found/a.yaml", "./found/a.yaml", "-"],
)
def test_one(
    command: str,
    target: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = (here / "found" / "a.yaml").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    # Nothing can be made of it, as it has no probe.
    assert say(command, target)[0] == (2 if command == "check" else 0)
    captured = capsys.readouterr()
    if command == "validate":
        assert captured.out == "1 file, no problems\n"
    elif command == "check":
        assert captured.err == (
            "cachedit-yaml: error: nothing was proved: "
            f"{'sglang/' if target.startswith('sglang') else ''}found: it has no probe; "
            "add 'probe:' (docs/probe.md), or try the model itself: "
            "--pipeline FOLDER --prompt TEXT\n"
        )
    else:
        assert "found" in captured.out
        assert "shipped" not in captured.out


@pytest.mark.parametrize("command", commands(*MANY))
def test_folders_and_patterns(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for target in ("other", "oth*", "other/*.yaml"):
        say(command, target)
        out = "".join(capsys.readouterr())  # what cannot be proved is an error, said once
        assert "1 file, no problems" in out if command == "validate" else "other" in out
        assert "found" not in out


@pytest.mark.parametrize("command", commands(*ONE, *MANY))
def test_what_is_not_there(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "empty").mkdir()
    says = {
        "foundd": "no adapter is called 'foundd'\n  nearest: found (found/a.yaml)",
        "MyPipelin": "no adapter for the pipeline class 'MyPipelin'\n  nearest: MyPipeline (",
        "found/b.yaml": "no such file or folder: found/b.yaml\n  nearest: found/a.yaml",
        "flux.yaml": "there is an adapter of this name: flux (",
        # Whatever the capitals: what has names that are near was meant.
        "FOUNDD": "no adapter is called 'FOUNDD'\n  nearest: found (found/a.yaml)",
        "mypipelin": "no adapter for the pipeline class 'mypipelin'\n  nearest: MyPipeline (",
        "MyTransfomer": "no adapter for the transformer class 'MyTransfomer'\n  nearest: MyTrans",
    }
    if command in ONE:
        (here / "model").mkdir()
        (here / "model" / "model_index.json").write_text("{}")
        says["model"] = "model is the folder of a model, not an adapter; a model is given as --mod"
    if command in MANY:
        says |= {
            "empty": "no adapter files (*.yaml, *.yml) in empty",
            "x*.yaml": "no such file or folder: x*.yaml",
        }
    for target, text in says.items():
        assert say(command, target)[0] == 2
        captured = capsys.readouterr()
        assert text in captured.err
        assert captured.out == ""


def test_an_own_file_comes_before_those_of_engines(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, engine in (("sglang", "sglang"), ("z", "vllm_omni")):
        (here / "found" / name).mkdir()
        text = MINE.format("My").replace("mine", "found").replace("sglang:", f"{engine}:")
        only = text.replace("pipelines: [MyPipeline]\n", "").replace("MyOther", "MyPipeline")
        (here / "found" / name / "found.yaml").write_text(only)
    assert main(["show", "foundd"]) == 2
    assert "nearest: found (found/a.yaml)" in capsys.readouterr().err
    assert main(["show", "MyPipelin"]) == 2
    assert "nearest: MyPipeline (found/a.yaml)" in capsys.readouterr().err
    assert main(["show", "--engine", "vllm_omni", "foundd"]) == 2
    assert "nearest: found (found/z/found.yaml)" in capsys.readouterr().err


@pytest.mark.libraries
def test_nothing_to_prove(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def why(*arguments: str) -> str:
        assert main(["check", *arguments]) == 2
        return capsys.readouterr().err

    assert "--only FluxPipelin: none of the adapters has this pipeline; nearest: FluxPipeline" in (
        why("flux", "--only", "FluxPipelin")
    )
    assert "they have: MyOther, MyPipeline" in why("found", "--only", "Zzz")
    assert why("found").count("it has no probe") == 1
    assert "nothing was proved: found: it has no probe" in why("found")
    assert "no loop to explain: found: it has no probe" in why("found", "--explain")
    assert "nothing was proved: anyflow-far: refuses: " in why("anyflow-far")
    assert main(["check", "anyflow-far"]) == 2
    assert capsys.readouterr().out == ""  # no table without a row
    assert main(["check", "found", "--format", "json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["summary"] == {"proved": 0, "failed": 0, "skipped": 2}
    assert "nothing was proved" in captured.err


@pytest.mark.parametrize("form", ["human", "json", "sarif", "github", "junit"])
def test_output_that_cannot_be_written(
    form: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cachedit_yaml.cli.validate.validate", lambda *a, **k: pytest.fail("late"))
    (here / "file").write_text("")
    for path, says in (
        ("none/x.json", "cannot write none/x.json: there is no folder none"),
        ("found", "cannot write found: it is a folder; name a file in it"),
        ("file/x.json", "cannot write file/x.json: file is a file, not a folder"),
    ):
        assert main(["validate", "flux", "--format", form, "--output", path]) == 2
        assert f"cachedit-yaml: error: --output: {says}\n" == capsys.readouterr().err
    monkeypatch.setattr("os.access", lambda *a: False)
    assert main(["validate", "flux", "--format", form, "--output", "x.json"]) == 2
    assert "cannot write x.json: permission denied" in capsys.readouterr().err
