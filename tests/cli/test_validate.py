"""``validate``: what it reads, what it prints, how it exits."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from cachedit_yaml.cli import main

GOOD = "schema: 1\npipelines: [{}]\ntransformers: {{t: {{blocks: {{b: Pattern_1}}}}}}\n"
MASK = "scm: {preset: fast, policy: static}"
WARNING = f"cache: {{{MASK}, max_accumulated_residual_diff_threshold: 2.0}}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CACHEDIT_YAML_PATH", raising=False)
    return tmp_path


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_all_adapters_by_default(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate"]) == 0
    assert capsys.readouterr().out.endswith("no problems\n")


def test_folders_files_and_patterns(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "a" / "deep", one=GOOD.format("One"))
    write(here, two=GOOD.format("Two"), three=GOOD.format("Three"))
    assert main(["validate", "a"]) == 0
    assert capsys.readouterr().out == "1 file, no problems\n"
    assert main(["validate", "t*.yaml", "a/deep/one.yaml"]) == 0
    assert capsys.readouterr().out == "3 files, no problems\n"
    assert main(["validate", "**/*.yaml"]) == 0
    assert capsys.readouterr().out == "3 files, no problems\n"


def test_errors(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here, a=GOOD.format("A"), b=GOOD.format("B") + "oops: 1\n", c="schema: 1\n\tx: 1\n")
    assert main(["validate", "."]) == 1
    out = capsys.readouterr().out
    assert "b.yaml:4:1: error[unknown-key]: unknown key 'oops' (CY101)\n   4 | oops: 1\n" in out
    assert "c.yaml:2:1: error[syntax]: a tab in the indentation" in out
    assert out.endswith("\n3 files, 2 errors\n")


def test_warnings(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here, a=GOOD.format("A") + WARNING)
    assert main(["validate", "a.yaml"]) == 0
    assert capsys.readouterr().out.endswith("1 file, 1 warning\n")
    assert main(["validate", "--strict", "a.yaml"]) == 1


def test_two_files_that_claim_the_same(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "x", a=GOOD.format("A"), b=GOOD.format("A"))
    assert main(["validate", "x"]) == 1
    out = capsys.readouterr().out
    assert "b.yaml:2:13: error[conflict]: the pipeline class 'A' is taken by x/a.yaml" in out
    assert "x/a.yaml:2:13: taken here" in out
    # Two folders may: the later one wins.
    write(here / "y", b=GOOD.format("A"))
    (here / "x" / "b.yaml").unlink()
    assert main(["validate", "x", "y"]) == 0


def test_stdin(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin(monkeypatch, GOOD.format("A").encode())
    assert main(["validate", "-"]) == 0
    assert capsys.readouterr().out == "1 file, no problems\n"
    stdin(monkeypatch, b"\xff\xfea\0")
    assert main(["validate", "-"]) == 1
    assert "<stdin>:1:1: error[encoding]" in capsys.readouterr().out


def test_nothing_to_check_is_wrong_use(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "empty").mkdir()
    for argument, says in (
        ("empty", "no adapter files"),
        ("none.yaml", "no such file"),
        ("no*.yaml", "no such file"),
    ):
        assert main(["validate", argument]) == 2
        assert says in capsys.readouterr().err


def test_a_file_with_a_bracket_in_its_name(here: Path) -> None:
    (here / "a[1].yaml").write_text(GOOD.format("A"))
    assert main(["validate", "a[1].yaml"]) == 0


def test_extends_finds_named_adapters(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "bases", base=GOOD.format("Base"))
    write(here, child="schema: 1\nextends: base\n")
    assert main(["--adapters", "bases", "validate", "child.yaml"]) == 0
    assert main(["validate", "child.yaml"]) == 1
    assert "no adapter is called 'base'" in capsys.readouterr().out


def test_the_line_of_an_inherited_mistake_is_shown(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(here / "b", base=GOOD.format("Base") + "oops: 1\n")
    write(here, child="schema: 1\nextends: b/base.yaml\n")
    assert main(["validate", "child.yaml"]) == 1
    out = capsys.readouterr().out
    assert "base.yaml:4:1: error[unknown-key]" in out
    assert "4 | oops: 1" in out


def test_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here, a=GOOD.format("A"), b=GOOD.format("B") + "oops: 1\n" + WARNING)
    assert main(["validate", "--format", "json", "a.yaml", "b.yaml"]) == 1
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert data["summary"] == {"files": 2, "errors": 1, "warnings": 1, "hints": 0, "fixed": 0}
    assert data["version"] == 1
    assert [entry["path"] for entry in data["files"]] == ["a.yaml", "b.yaml"]
    found = data["files"][1]["diagnostics"]
    assert found[0]["code"] == "unknown-key"
    assert found[0]["span"] == {
        "path": "b.yaml",
        "line": 4,
        "column": 1,
        "end_line": 4,
        "end_column": 5,
    }


def test_a_place_that_does_not_exist_is_a_warning(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CACHEDIT_YAML_PATH", "nowhere")
    write(here, a=GOOD.format("A"))
    assert main(["validate", "a.yaml"]) == 0
    assert "warning[search-path]" in capsys.readouterr().out


def test_color(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(here, a="oops: 1\n")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(["validate", "a.yaml"]) == 1
    assert "\x1b[1;31m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["validate", "a.yaml"]) == 1
    assert "\x1b" not in capsys.readouterr().out
