"""Every format says the same, in a form that its readers accept."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import cachedit_yaml
from cachedit_yaml.cli import main
from cachedit_yaml.rules.catalogue import RULES
from tests.golden import cases

SARIF = Path(__file__).parents[1] / "data" / "sarif-2.1.0.schema.json"
#: One of each severity, related places, a fix, and characters that each format has to escape.
TEXT = """\
schema: 1
pipelines: [MyPipeline]
transformers: {transformer: {blocks: {blocks: Pattern_1}}}
cache: {residual_diff_treshold: 0.1, max_cached_steps: 0, max_warmup_steps: 4, warmup_interval: 4}
description: "50% <b>, 模型 & co: \\U0001F600"
name: a
name: b
"""
GOOD = "schema: 1\npipelines: [{}]\ntransformers: {{t: {{blocks: {{b: Pattern_1}}}}}}\n"


@pytest.fixture
def here(here: Path) -> Path:
    (here / "a b,c.yaml").write_text(TEXT, encoding="utf-8")
    (here / "good.yaml").write_text(GOOD.format("Good"), encoding="utf-8")
    return here


def printed(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(["validate", *args, "."]) == 1
    return capsys.readouterr().out


def sarif_schema() -> Any:
    return json.loads(SARIF.read_text(encoding="utf-8"))


def test_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(printed(capsys, "--format", "json"))
    assert data["version"] == 1
    assert data["summary"] == {"files": 2, "errors": 2, "warnings": 1, "hints": 1, "fixed": 0}
    bad, good = data["files"]
    assert (bad["path"], bad["kind"], good["diagnostics"]) == ("a b,c.yaml", "adapter", [])
    first = next(item for item in bad["diagnostics"] if item["code"] == "unknown-key")
    assert first["id"] == "CY101"
    assert first["documentation"] == "docs/rules.md#cy101"
    assert first["fix"][0]["text"] == "residual_diff_threshold"
    double = next(item for item in bad["diagnostics"] if item["code"] == "duplicate-key")
    assert double["related"][0]["line"] == 6


def test_sarif_fits_the_schema(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(printed(capsys, "--format", "sarif"))
    jsonschema.Draft4Validator(sarif_schema()).validate(data)
    run = data["runs"][0]
    driver = run["tool"]["driver"]
    assert driver["version"] == cachedit_yaml.__version__
    assert {result["level"] for result in run["results"]} == {"error", "warning", "note"}
    for result in run["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "a%20b%2Cc.yaml"
    fixed = next(result for result in run["results"] if "fixes" in result)
    change = fixed["fixes"][0]["artifactChanges"][0]["replacements"][0]
    assert change["insertedContent"]["text"] == "residual_diff_threshold"
    assert change["deletedRegion"]["startLine"] == 4


def test_sarif_of_every_golden_file() -> None:
    """Those that need no arguments and no variables together, each in a folder of its own."""
    together = cases.Case()
    tried = [together]
    for path in cases.bad_files():
        case = cases.parse(path.read_bytes(), path.name)
        case.args = [arg for arg in case.args if arg != "--deep"]
        if case.args or case.env or case.links:
            tried.append(case)
        else:
            together.files |= {f"{path.stem}/{name}": text for name, text in case.files.items()}
    found = 0
    for case in tried:
        _, out = cases.run(case, "--format", "sarif")
        data = json.loads(out)
        jsonschema.Draft4Validator(sarif_schema()).validate(data)
        found += len(data["runs"][0]["results"])
    assert found > 250


def test_the_schema_refuses_what_is_wrong(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(printed(capsys, "--format", "sarif"))
    data["runs"][0]["results"][0]["level"] = "hint"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft4Validator(sarif_schema()).validate(data)


def test_github(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "--format", "github").splitlines()
    assert len(lines) == 4
    assert lines[0] == (
        "::error file=a b%2Cc.yaml,line=4,endLine=4,col=9,endColumn=31,title=CY101 unknown-key::"
        "unknown key 'residual_diff_treshold'%0Adid you mean 'residual_diff_threshold'?"
    )
    assert {line.split()[0] for line in lines} == {"::error", "::warning", "::notice"}


def test_github_by_itself(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    out = printed(capsys)
    assert out.count("::error file=") == 2
    assert "error[unknown-key]: unknown key" in out
    assert out.endswith("\n2 files, 2 errors, 1 warning, 1 hint\n")
    assert "::error" not in printed(capsys, "--format", "human")


def test_junit(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ET.fromstring(printed(capsys, "--format", "junit").encode())
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    bad, good = suite.findall("testcase")
    assert (bad.get("name"), good.get("name")) == ("a b,c.yaml", "good.yaml")
    failure = bad.find("failure")
    assert failure is not None
    assert failure.get("type") == "CY101"
    assert "unknown key 'residual_diff_treshold'" in (failure.text or "")
    output = bad.find("system-out")
    assert output is not None
    assert "thin-warmup" in (output.text or "")
    assert list(good) == []


def test_junit_holds_any_character(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "odd.yaml").write_bytes(GOOD.format("Odd").encode() + "a\u0001]]>: 1\n".encode())
    (here / "odd2.yaml").write_text(GOOD.format("Odd2") + '"\\x01\\uFFFE": 1\n', encoding="utf-8")
    root = ET.fromstring(printed(capsys, "--format", "junit").encode())
    assert len(root.findall("testsuite/testcase")) == 4


def test_problems_of_no_file_are_in_every_format(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEDIT_YAML_PATH", "nowhere")
    for form in ("human", "json", "sarif", "github", "junit"):
        assert "nowhere" in printed(capsys, "--format", form)


def test_output_goes_to_a_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "--format", "sarif", "--output", "report.sarif")
    assert out == "2 files, 2 errors, 1 warning, 1 hint\n"
    assert json.loads((here / "report.sarif").read_text(encoding="utf-8"))["version"] == "2.1.0"
    assert main(["validate", "--output", "no/such/folder/x", "good.yaml"]) == 2
    assert "no/such/folder/x" in capsys.readouterr().err


def test_colour_only_on_a_terminal(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b" not in printed(capsys)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = printed(capsys)
    assert {"\x1b[1;31merror", "\x1b[1;33mwarning", "\x1b[1;36mhint"} <= set(
        re.findall("\x1b\\[1;\\d+m(?:error|warning|hint)", out)
    )


def test_strict_counts_warnings_and_not_hints(here: Path) -> None:
    for body, code in (("max_cached_steps: 0", 1), ("max_warmup_steps: 2, warmup_interval: 2", 0)):
        (here / "x.yaml").write_text(GOOD.format("X") + f"cache: {{{body}}}\n", encoding="utf-8")
        assert main(["validate", "x.yaml"]) == 0
        assert main(["validate", "--strict", "x.yaml"]) == code


def test_every_severity_has_its_word_in_every_format() -> None:
    from cachedit_yaml.cli.validation.formats.github_report import _COMMANDS
    from cachedit_yaml.cli.validation.formats.sarif_report import _LEVELS

    assert {rule.severity for rule in RULES.values()} == set(_COMMANDS) == set(_LEVELS)
