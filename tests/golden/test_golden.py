"""Every golden file prints what it should, and every rule of the catalogue has one."""

from __future__ import annotations

from pathlib import Path

import pytest

from cachedit_yaml.rules.catalogue import RULES
from tests.golden import cases

BAD = cases.bad_files()


def by_name(path: Path) -> str:
    return path.stem


def test_there_are_enough_files() -> None:
    assert len(BAD) >= 120
    assert len(cases.ok_files()) >= 10


def test_every_rule_has_a_golden_file() -> None:
    tried = {path.stem.partition("--")[0] for path in BAD}
    assert set(RULES) - tried == set()
    assert tried - set(RULES) == set()


def test_no_output_is_left_over() -> None:
    outputs = {path.stem for path in (cases.FOLDER / "bad").glob("*.out")}
    assert outputs == {path.stem for path in BAD}


@pytest.mark.parametrize("path", BAD, ids=by_name)
def test_bad(path: Path) -> None:
    case = cases.parse(path.read_bytes(), path.name)
    code, out = cases.run(case)
    assert out == path.with_suffix(".out").read_text(encoding="utf-8")
    found = cases.findings(case)
    rule = RULES[path.stem.partition("--")[0]]
    # Wrong in one way, and in the way that the name says.
    assert [item["code"] for item in found] == [rule.name]
    assert found[0]["id"] == rule.id
    assert found[0]["severity"] == rule.severity
    assert found[0]["span"] or rule.name == "search-path"
    assert code == (1 if rule.severity == "error" else 0)


@pytest.mark.parametrize("path", cases.ok_files(), ids=by_name)
def test_ok(path: Path) -> None:
    assert cases.run(cases.parse(path.read_bytes(), path.name)) == (0, "1 file, no problems\n")
