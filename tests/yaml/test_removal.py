"""Keys are taken out of a text, and everything else stays as it stands."""

from __future__ import annotations

import itertools

import pytest
import yaml

from cachedit_yaml.rules.fix import apply_edits
from cachedit_yaml.yaml.diagnostics import KeyPath
from cachedit_yaml.yaml.reader import read_text
from cachedit_yaml.yaml.removal import removal

FLOW = "a: 1\nb: {x: 1, y: [1, 2], z: {p: q}}  # why\nc: 3\n"
LINES = "a: 1\nb:\n  # about x\n  x: 1\n  y:\n    - 1\n    - 2\n\n  z: |\n    one\n    two\nc: 3\n"
BROKEN = "a: 1\nb: {x: 1, y: 'a, b',\n    z: 3}\nc: 3\n"


def without(text: str, parent: KeyPath, *names: str) -> str:
    document, found = read_text(text.encode(), "a.yaml")
    assert not found
    return apply_edits(text, removal(document, parent, names))


@pytest.mark.parametrize("text", [FLOW, LINES, BROKEN], ids=["flow", "lines", "broken"])
@pytest.mark.parametrize(
    "names", [c for n in (1, 2, 3) for c in itertools.combinations("xyz", n)], ids="".join
)
def test_what_is_named_goes_and_the_rest_stays(text: str, names: tuple[str, ...]) -> None:
    wanted = yaml.safe_load(text)
    for name in names:
        del wanted["b"][name]
    if not wanted["b"]:
        del wanted["b"]
    assert yaml.safe_load(without(text, ("b",), *names)) == wanted


def test_comments_of_others_stay() -> None:
    assert without(FLOW, ("b",), "y") == "a: 1\nb: {x: 1, z: {p: q}}  # why\nc: 3\n"
    assert without(FLOW, ("b",), "z") == "a: 1\nb: {x: 1, y: [1, 2]}  # why\nc: 3\n"
    assert "# about x" in without(LINES, ("b",), "y")


def test_what_would_leave_nothing_or_stands_nowhere_is_left() -> None:
    assert without("a: 1\n", (), "a") == "a: 1\n"
    assert without("a: {b: 1}\n", ("a",), "b") == "a: {b: 1}\n"
    assert without("a: 1\nb: 2\n", (), "c") == "a: 1\nb: 2\n"
