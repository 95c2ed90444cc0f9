"""Whatever a file holds, reading it ends soon, with a message and without a traceback."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from language_documents import BAD, GOOD

from cachedit_yaml.cli.rendering import render_in
from cachedit_yaml.rules.adapter import Adapter
from cachedit_yaml.yaml.diagnostics import plain
from cachedit_yaml.yaml.reader import read_text
from tests.work import counted

CORPUS = [*GOOD.values(), *(case.text for case in BAD if len(case.text) < 2000)]
FRAGMENTS = [
    "&a ",
    "*a",
    "<<: *a",
    "!!python/name:os.system ",
    "!x ",
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "? ",
    "\t",
    "'",
    '"',
    "|",
    ">",
    "%",
    "@",
    "#",
    "\n",
    "\r\n",
    "---\n",
    "...\n",
    "\0",
    "\ufeff",
    "\u2028",
    "模型",
    "\U0001f600",
    "null",
    "yes",
    ".nan",
    "1e999",
    "0x",
    "9" * 30,
    "extends: x\n",
    "schema: 9\n",
    "  ",
    "\u00a0",
    "\\",
    "\x85",
    "transformers:",
    "blocks:",
    "Pattern_1",
]


@pytest.fixture(scope="module", autouse=True)
def read_once() -> None:
    """Schemas and rules are read at first use, which is no work of the file that comes first."""
    for text in (*GOOD.values(), *(case.text for case in BAD)):
        assert Adapter.of(*read_text(text, "a.yaml")).merged()


def check(source: str | bytes) -> None:
    with counted() as work:
        adapter = Adapter.of(*read_text(source, "a.yaml"))
        spec, found, document = adapter.checked_spec, adapter.diagnostics, adapter.merged()
    # Some for each character: work that grew with their square would pass this soon.
    assert work.calls < 50_000 + 200 * len(source)
    errors = [item for item in found if item.severity == "error"]
    assert (spec is None) == bool(errors)
    lines = document.lines
    for item in found:
        shown = render_in(item, document.sources)
        assert plain(item.message) in shown
        if item.span is not None:
            assert 1 <= item.span.line <= max(1, len(lines))
            assert item.span.column >= 1


@settings(max_examples=400)
@given(st.data())
def test_mutated_documents(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(CORPUS))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 12))
        text = text[:at] + data.draw(st.sampled_from(["", *FRAGMENTS])) + text[at + length :]
    check(text)


@settings(max_examples=150)
@example("schema: 1\n? pipelines")
@example("schema: 1\npipelines: [A]\nprofiles:\n  ? fast")
@example("schema: 1\ntransformers:\n  ? transformer\n  # more\n")
@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    check(text)


@settings(max_examples=150)
@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    check(content)


@pytest.mark.parametrize("seed", range(4))
def test_documents_cut_anywhere(seed: int) -> None:
    chance = random.Random(seed)
    for text in GOOD.values():
        for _ in range(6):
            check(text[: chance.randrange(len(text))])


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        "{" * 200_000,
        "- " * 100_000,
        "? " * 100_000,
        "a: " * 60_000,
        "&a " * 60_000,
        "!" * 200_000,
        "a: '" + "x" * 200_000,
        'a: "' + "\\u0041" * 40_000 + '"',
        "a: |\n" + " x\n" * 60_000,
        "a: " + "9" * 200_000,
        "#" * 250_000,
        "\n" * 250_000,
        "a: &x [" + "1," * 5_000 + "]\nb: [*x, *x, *x, *x]\n",
        "".join(f"k{i}: {i}\n" for i in range(9_000)),
    ],
    ids=lambda text: text[:8].strip() or "breaks",
)
def test_large_documents_take_little_work(text: str) -> None:
    check(text)
