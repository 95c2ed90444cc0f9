"""Every kind of mistake leads to one message, in its place, that says what to do."""

from __future__ import annotations

import pytest
from language_documents import BAD, BAD_YAML, GOOD, ODD, Bad

from cachedit_yaml.rules.adapter import Adapter
from cachedit_yaml.yaml.reader import read_text


def by_name(case: Bad) -> str:
    return case.name


def test_there_are_many_cases_and_each_has_its_name() -> None:
    names = [case.name for case in BAD + ODD]
    assert len(names) >= 120
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", BAD_YAML, ids=by_name)
def test_bad_yaml(case: Bad) -> None:
    _, found = read_text(case.text, "a.yaml")
    assert [(d.code, d.span[1:3] if d.span else None) for d in found] == [
        (case.code, (case.line, case.column))
    ]
    assert case.says in found[0].summary()


@pytest.mark.parametrize("case", [case for case in BAD if case not in BAD_YAML], ids=by_name)
def test_bad_adapter(case: Bad) -> None:
    adapter = Adapter.of(*read_text(case.text, "a.yaml"))
    spec, found = adapter.checked_spec, adapter.diagnostics
    assert spec is None
    errors = [d for d in found if d.severity == "error"]
    assert [(d.code, d.span[1:3] if d.span else None) for d in errors] == [
        (case.code, (case.line, case.column))
    ]
    assert case.says in errors[0].summary()
    assert str(errors[0]).startswith(f"a.yaml:{case.line}:{case.column}: error[{case.code}]: ")


@pytest.mark.parametrize("case", ODD, ids=by_name)
def test_odd_adapter(case: Bad) -> None:
    adapter = Adapter.of(*read_text(case.text, "a.yaml"))
    spec, found = adapter.checked_spec, adapter.diagnostics
    assert spec is not None
    assert [(d.severity, d.code, d.span[1:3] if d.span else None) for d in found] == [
        ("warning", case.code, (case.line, case.column))
    ]
    assert case.says in found[0].summary()


@pytest.mark.parametrize("name", GOOD)
def test_good_adapter(name: str) -> None:
    adapter = Adapter.of(*read_text(GOOD[name], "a.yaml"))
    spec, found = adapter.checked_spec, adapter.diagnostics
    assert found == []
    assert spec is not None


def test_all_errors_of_a_file_are_said_at_once_in_order() -> None:
    text = "schema: 1\npipelines: [A, A]\nfoo: 1\ncache: {scm: x, max_warmup_steps: a}\nfoo: 2\n"
    found = Adapter.of(*read_text(text, "a.yaml")).diagnostics
    assert [(d.code, d.span.line if d.span else 0) for d in found] == [
        ("missing-key", 1),
        ("duplicate-item", 2),
        ("unknown-key", 3),
        ("wrong-value", 4),
        ("wrong-type", 4),
        ("duplicate-key", 5),
    ]


def test_a_newer_file_is_not_drowned_in_unknown_keys() -> None:
    found = Adapter.of(*read_text("schema: 3\nfoo: 1\nbar: 2\n", "a.yaml")).diagnostics
    assert [d.code for d in found] == ["schema-version"]
