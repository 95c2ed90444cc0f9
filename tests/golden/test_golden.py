"""Every golden file prints what it should, and every rule of the catalogue has one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cachedit_yaml.rules.catalogue import RULES
from tests.golden import cases

BAD = cases.bad_files()
#: How a finding begins: its place, severity, rule and code.
HEAD = re.compile(
    r"^(\S.*?): (error|warning|hint)\[([a-z0-9-]+)\]: .* \((CY\d{3})\)$", re.MULTILINE
)


def tried(paths: list[Path]) -> list[Any]:
    """Files as parameters; `make test-pythons` leaves out what needs diffusers."""
    return [
        pytest.param(path, id=path.stem, marks=[pytest.mark.libraries] * needs_libraries(path))
        for path in paths
    ]


def needs_libraries(path: Path) -> bool:
    """Whether what is printed depends on the models' libraries."""
    deep = "--deep" in cases.parse(path.read_bytes(), path.name).args
    return deep or path.stem.startswith("misspelled-class--")


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


@pytest.mark.parametrize("path", tried(BAD))
def test_bad(path: Path) -> None:
    case = cases.parse(path.read_bytes(), path.name)
    code, out = cases.run(case)
    assert out == path.with_suffix(".out").read_text(encoding="utf-8")
    rule = RULES[path.stem.partition("--")[0]]
    # Wrong in one way, and in the way that the name says.
    ((place, *found),) = HEAD.findall(out)
    assert found == [rule.severity, rule.name, rule.id]
    assert re.search(r":\d+:\d+$", place) or rule.name == "search-path"
    assert code == (1 if rule.severity == "error" else 0)


@pytest.mark.parametrize("path", tried(cases.ok_files()))
def test_ok(path: Path) -> None:
    assert cases.run(cases.parse(path.read_bytes(), path.name)) == (0, "1 file, no problems\n")
