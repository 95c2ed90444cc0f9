"""Names with ``*``."""

from __future__ import annotations

import random
import re

import pytest

from cachedit_yaml.language.patterns import covered, fits


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("FluxPipeline", "FluxPipeline", True),
        ("FluxPipeline", "FluxPipeline2", False),
        ("Flux*", "Flux", True),
        ("Flux*", "MyFlux", False),
        ("*Pipeline", "FluxPipeline", True),
        ("*", "", True),
        ("ab*ba", "aba", False),
        ("a*b*c", "a-b-b-c", True),
        ("a*bc*c", "abc", False),
        ("a**b", "ab", True),
        ("***", "", True),
        ("a***b***", "a-b-", True),
        ("a***b***c", "a-b-", False),
        # Nothing but a star is special.
        ("Flux?", "Flux2", False),
        ("Flux[12]", "Flux1", False),
    ],
)
def test_what_fits(pattern: str, name: str, expected: bool) -> None:
    assert fits(pattern, name) is expected


def test_the_same_as_a_regular_expression() -> None:
    chance = random.Random(0)
    for _ in range(20_000):
        pattern = "".join(chance.choices("ab*", k=chance.randrange(8)))
        name = "".join(chance.choices("ab", k=chance.randrange(8)))
        expected = re.fullmatch(pattern.replace("*", ".*"), name) is not None
        assert fits(pattern, name) is expected, (pattern, name)


def test_many_stars_never_go_back() -> None:
    class Counting(str):
        finds = 0

        def find(self, *args: object) -> int:
            Counting.finds += 1
            return str.find(self, *args)  # type: ignore[arg-type]

    assert not fits("*a" * 200 + "b", Counting("a" * 4000))
    assert Counting.finds <= 200
    assert covered("a" * 4000, ["*a" * 200, "b"])
