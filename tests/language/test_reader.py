"""Reading: scalars of YAML 1.2, positions, files that cannot be opened, the slow parser."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from language_documents import BAD_YAML, GOOD, Bad

from cachedit_yaml.yaml import nodes
from cachedit_yaml.yaml.diagnostics import Diagnostic
from cachedit_yaml.yaml.document import Document
from cachedit_yaml.yaml.reader import read_file, read_text
from cachedit_yaml.yaml.reading import MAX_BYTES

SCALARS: list[tuple[str, Any]] = [
    ("yes", "yes"),
    ("no", "no"),
    ("on", "on"),
    ("off", "off"),
    ("y", "y"),
    ("n", "n"),
    ("true", True),
    ("True", True),
    ("TRUE", True),
    ("tRUE", "tRUE"),
    ("false", False),
    ("null", None),
    ("Null", None),
    ("NULL", None),
    ("~", None),
    ("", None),
    ("nUll", "nUll"),
    ("0", 0),
    ("-1", -1),
    ("+1", 1),
    ("010", 10),
    ("0o17", 15),
    ("0x1F", 31),
    ("0b1", "0b1"),
    ("1_000", "1_000"),
    ("1:30", "1:30"),
    ("2026-11-23", "2026-11-23"),
    ("0o8", "0o8"),
    ("1.5", 1.5),
    (".5", 0.5),
    ("5.", 5.0),
    ("1e3", 1000.0),
    ("1E-2", 0.01),
    ("-.inf", -float("inf")),
    (".Inf", float("inf")),
    ("1e", "1e"),
    (".", "."),
    ("1.2.3", "1.2.3"),
    ("9" * 200, "9" * 200),
    ("'1'", "1"),
    ('"true"', "true"),
    ("=", "="),
]


def read_value(text: str) -> Any:
    document, found = read_text(f"a: {text}\n")
    assert found == []
    assert document.data is not None
    return document.data["a"]


def only(found: list[Diagnostic]) -> Diagnostic:
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars_of_yaml_1_2(text: str, value: Any) -> None:
    found = read_value(text)
    assert found == value
    assert type(found) is type(value)


def test_nan() -> None:
    assert read_value(".nan") != read_value(".nan")


def test_block_scalars_are_text() -> None:
    assert read_value("|\n  yes\n  no") == "yes\nno\n"
    assert read_value(">-\n  1\n  2") == "1 2"


def test_positions() -> None:
    document, _ = read_text("a: 1\nb:\n  - x\n  - {c: 'd e'}\n", "f.yaml")
    key, value = document.positions[("b", 1, "c")]
    assert key is not None
    assert (key.line, key.column, key.end_column) == (4, 6, 7)
    assert (value.line, value.column, value.end_column) == (4, 9, 14)
    assert document.positions[("b", 0)][0] is None
    assert document.places()[("b", 0)].endswith(":3")
    # Where nothing stands, the nearest key above does; else the beginning of the file.
    missing = document.value_span(("b", 1, "zzz"))
    assert missing is not None
    assert missing[1:3] == (4, 5)
    assert document.value_span(("zzz",)) is not None
    assert Document("dict", {"a": 1}).value_span(("a",)) is None


def test_an_alias_has_its_own_place_and_the_values_of_its_anchor() -> None:
    document, found = read_text("a: &x {b: 1}\nc: *x\n")
    assert found == []
    assert document.data == {"a": {"b": 1}, "c": {"b": 1}}
    assert document.positions[("c",)][1].line == 2
    assert document.positions[("c", "b")][1].line == 1


def test_an_anchor_may_be_set_anew() -> None:
    document, found = read_text("a: &x 1\nb: &x 2\nc: *x\n")
    assert found == []
    assert document.data == {"a": 1, "b": 2, "c": 2}


def test_a_key_may_be_an_alias() -> None:
    assert read_text("a: &x b\n*x : 1\n")[0].data == {"a": "b", "b": 1}


def test_billion_laughs_stop_early() -> None:
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 6)}]" for i in range(1, 10)]
    document, found = read_text("\n".join(lines))
    assert only(found).code == "too-large"
    assert document.data is None


def test_aliases_cannot_nest_deeper_than_the_limit() -> None:
    lines = ["l0: &l0 [x]", *(f"l{i}: &l{i} [*l{i - 1}]" for i in range(1, 60))]
    assert only(read_text("\n".join(lines))[1]).code == "too-large"


def test_several_mistakes_of_one_kind_are_all_said() -> None:
    _, found = read_text("a: !x 1\nb: !y 2\na: 3\n1: 2\n")
    assert [item.code for item in found] == ["tag", "tag", "duplicate-key", "non-string-key"]


def test_line_breaks_of_windows_and_old_macs() -> None:
    for line_break in ("\r\n", "\r"):
        document, found = read_text(f"a: 1{line_break}b: !x 2{line_break}")
        assert document.data == {"a": 1, "b": 2} or found
        assert only(found).span is not None
        assert found[0].span[1:3] == (2, 4)  # type: ignore[index]
        assert document.lines[1] == "b: !x 2"


def test_utf8_with_a_byte_order_mark() -> None:
    document, found = read_text("\ufeffa: ü\n".encode())
    assert found == []
    assert document.data == {"a": "ü"}


@pytest.mark.parametrize(
    ("content", "says", "place"),
    [
        ("a: 1\n".encode("utf-16"), "the file is UTF-16", (1, 1)),
        ("a: 1\n".encode("utf-32"), "the file is UTF-32", (1, 1)),
        ("a: 1\nb: ü\n".encode("latin-1"), "byte 0xfc is not UTF-8", (2, 4)),
        ("a: 型\n".encode("gbk"), "is not UTF-8", (1, 4)),
    ],
)
def test_other_encodings(content: bytes, says: str, place: tuple[int, int]) -> None:
    document, found = read_text(content)
    assert document.data is None
    item = only(found)
    assert item.code == "encoding"
    assert says in item.message
    assert item.span is not None
    assert item.span[1:3] == place


def test_utf16_without_a_mark_is_recognised() -> None:
    item = only(read_text("a: 1\n".encode("utf-16-le"))[1])
    assert item.hint is not None
    assert "UTF-16" in item.hint


def test_a_lone_surrogate_in_text() -> None:
    assert only(read_text("a: \ud800\n")[1]).code == "control-character"


@pytest.mark.parametrize("content", ["a: " + "x" * MAX_BYTES, b"a: " + b"x" * MAX_BYTES])
def test_too_large(content: str | bytes) -> None:
    assert only(read_text(content)[1]).code == "too-large"


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    with open(path, "wb") as handle:
        handle.truncate(1 << 36)
    document, found = read_file(path)
    assert only(found).code == "too-large"
    assert document.data is None


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    cases = {tmp_path / "none.yaml": "No such file", tmp_path: "a folder", loop: "symbolic links"}
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.yaml")
        cases[tmp_path / "pipe.yaml"] = "not a regular file"
    for path, says in cases.items():
        document, found = read_file(path)
        assert document.data is None
        assert only(found).code == "unreadable"
        assert says in found[0].message
    assert only(read_file("nul\0.yaml")[1]).code == "unreadable"


def test_a_file_is_called_as_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("- x\n")
    assert str(read_file(path, "short.yaml")[1][0]).startswith("short.yaml:1:1: ")
    assert str(read_file(path)[1][0]).startswith(f"{path}:1:1: ")


@pytest.fixture
def slow_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "_LOADER", yaml.SafeLoader)


@pytest.mark.usefixtures("slow_parser")
class TestWithoutLibyaml:
    """PyYAML may come without libyaml; its own parser words its errors otherwise."""

    @pytest.mark.parametrize("name", GOOD)
    def test_good(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        slow, found = read_text(GOOD[name])
        assert found == []
        monkeypatch.undo()
        fast, _ = read_text(GOOD[name])
        assert slow.data == fast.data
        assert slow.positions == fast.positions

    @pytest.mark.parametrize("case", BAD_YAML, ids=lambda case: case.name)
    def test_bad(self, case: Bad) -> None:
        _, found = read_text(case.text)
        assert len(found) == 1
        # Two places differ: what follows an unknown directive, and the character of an escape.
        if case.name not in ("percent", "escape"):
            assert found[0].code == case.code
            assert found[0].span is not None
            assert found[0].span[1:3] == (case.line, case.column)
            assert case.says in found[0].summary()
