"""The catalogue of rules: codes that stay, a page that is true, examples that are run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import cachedit_yaml
from cachedit_yaml.cli import main
from cachedit_yaml.rules.catalogue import (
    RETIRED,
    RULES,
    deep,
    engine,
    file,
    find_rule,
    ignores,
    meaning,
    names,
    page,
    schema,
)
from tests.golden import cases

SOURCES = Path(cachedit_yaml.__file__).parent
#: Every code that was ever given out. Lines are added, never changed or removed.
LEDGER = Path(__file__).with_name("codes.txt")

EXAMPLES = list(RULES.values())


def test_codes_and_names_are_unique() -> None:
    codes = [rule.id for rule in RULES.values()]
    assert len(codes) >= 70
    assert len(set(codes)) == len(codes)
    assert codes == sorted(codes)
    assert all(name == rule.name for name, rule in RULES.items())


def test_codes_are_never_used_for_anything_else() -> None:
    given = dict(line.split() for line in LEDGER.read_text(encoding="utf-8").splitlines())
    now = {rule.id: rule.name for rule in RULES.values()}
    assert {**now, **RETIRED} == given, "add new codes to codes.txt; never change a line of it"
    assert not set(now) & set(RETIRED)


def test_the_hundreds_tell_the_level() -> None:
    modules = (file, schema, meaning, names, deep, engine, ignores)
    for module in modules:
        levels = {rule.level for rule in module.RULES}
        assert levels == {module.__name__.rpartition(".")[2]}
    for rule in RULES.values():
        assert re.fullmatch(r"CY\d{3}", rule.id)
        assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", rule.name)
        for words in (rule.title, rule.why, rule.fix):
            assert words.endswith("."), rule.id


def test_the_page_is_up_to_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert page.main(["--check"]) == 0
    assert page.main(["--check", "--output", str(tmp_path / "rules.md")]) == 1
    assert "out of date" in capsys.readouterr().out
    assert page.main(["--output", str(tmp_path / "rules.md")]) == 0
    assert page.main(["--check", "--output", str(tmp_path / "rules.md")]) == 0


def test_the_address_of_a_rule_is_on_the_page() -> None:
    text = page.text()
    for rule in RULES.values():
        file, _, anchor = rule.address.partition("#")
        assert file == "docs/rules.md"
        assert f'<a id="{anchor}"></a>' in text


def test_every_rule_is_used_by_the_code() -> None:
    text = "".join(
        path.read_text(encoding="utf-8")
        for path in SOURCES.rglob("*.py")
        if path.parent.name != "catalogue"
    )
    for name in RULES:
        assert f'"{name}"' in text, f"{name} stands in the catalogue alone"


def needs_libraries(rule: Any) -> bool:
    return rule.level == "deep" or rule.name == "misspelled-class"


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(rule, id=rule.name, marks=[pytest.mark.libraries] * needs_libraries(rule))
        for rule in EXAMPLES
    ],
)
def test_examples(rule: object) -> None:
    assert hasattr(rule, "bad")
    more = ["--deep"] if rule.level == "deep" else []
    for example, encoding, wanted in (
        (rule.bad, rule.encoding, [rule.name]),
        (rule.good, "utf-8", []),
    ):
        case = cases.parse(example.encode(encoding), "adapter.yaml")
        case.args += more
        assert [item["code"] for item in cases.findings(case)] == wanted


def test_rules_are_found_by_code_and_by_name() -> None:
    assert find_rule("CY101") is find_rule("cy101") is find_rule("unknown-key")
    assert find_rule("CY999") is None


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--explain", "never-hits"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("CY205 never-hits (warning)\n")
    assert "What to do:" in out
    assert "  cache: {max_cached_steps: 0}" in out
    assert main(["validate", "--explain", "never-hit"]) == 2
    assert "did you mean 'never-hits'?" in capsys.readouterr().err
