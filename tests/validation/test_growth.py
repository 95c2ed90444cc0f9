"""What is twice as long costs twice the work, whatever it is of, and is bounded."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from cachedit_yaml.cli import main
from cachedit_yaml.errors import CacheditYamlError
from cachedit_yaml.language.patterns import fits
from cachedit_yaml.language.schemas import KINDS, load
from cachedit_yaml.language.spec import StepMask
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.rules.adapter import Adapter
from cachedit_yaml.rules.ignores import apply_ignores
from cachedit_yaml.runtime.masks import build_mask
from cachedit_yaml.yaml.reader import read_text
from tests.work import counted

HEAD: Final = "schema: 1\npipelines: [AbcPipeline]\n"
PLAIN: Final = "transformers: {transformer: {blocks: {b: Pattern_3}}}\n"


def several(of: Callable[[int], str], count: int, around: str = "[]") -> str:
    """A list, or a mapping, of so many."""
    return around[0] + ", ".join(of(number) for number in range(count)) + around[1]


def of_one(inside: str) -> str:
    return f"{HEAD}transformers: {{transformer: {{{inside}}}}}\n"


#: The collections of an adapter, each with as many as the schema lets it have.
COLLECTIONS: Final[dict[str, tuple[int, Callable[[int], str]]]] = {
    "pipelines": (256, lambda n: f"schema: 1\npipelines: {several('Abc{}Pipeline'.format, n)}\n"
                  + PLAIN),
    "patterns": (256, lambda n: "schema: 1\npipelines: "
                 + several(lambda i: f"'A*b{i:03}*c*'", n) + "\n" + PLAIN),
    "stars": (128, lambda n: f"schema: 1\npipelines: ['{'*' * (n - 1)}Z']\n" + PLAIN),
    "the same": (256, lambda n: f"schema: 1\npipelines: {several(lambda _: 'AbcPipeline', n)}\n"
                 + PLAIN),
    "models": (256, lambda n: HEAD + PLAIN + f"models: {several('a/b{}'.format, n)}\n"),
    "blocks": (32, lambda n: of_one(f"blocks: {several('b{}: Pattern_3'.format, n, '{}')}")),
    "params": (32, lambda n: of_one("blocks: " + several(
        lambda i: f"b{i}: {{pattern: Pattern_3, params: {{max_warmup_steps: {i + 1}}}}}", n,
        "{}")) + "steps: [{max_steps: 4}, {max_steps: 8}]\n"),
    "transformers": (16, lambda n: HEAD + "transformers: " + several(
        lambda i: f"t{i}: {{class: [A{i}], blocks: {{b: Pattern_3}}}}", n, "{}") + "\n"),
    "variants": (16, lambda n: of_one("variants: " + several(
        lambda i: f"{{class: [A{i}], blocks: {{b: Pattern_3}}}}", n))),
    "conditions": (16, lambda n: of_one("variants: " + several(
        lambda i: f"{{when: pipeline.a{i}, blocks: {{b: Pattern_3}}}}", n))),
    "classes": (16, lambda n: of_one(
        f"class: {several(lambda i: f'Abc{i:03}*', n)}, blocks: {{b: Pattern_3}}")),
    "steps": (16, lambda n: HEAD + PLAIN + "steps: " + several(
        lambda i: f"{{max_steps: {i + 2}, max_warmup_steps: 1}}", n) + "\n"),
    "profiles": (256, lambda n: HEAD + PLAIN + "profiles: " + several(
        lambda i: f"p{i}: {{max_warmup_steps: {i + 1}}}", n, "{}") + "\n"),
    "lists": (256, lambda n: HEAD + PLAIN + "profiles: {p: {lists: " + several(
        lambda i: f"b{i}: {{max_warmup_steps: {i + 1}}}", n, "{}") + "}}\n"),
    "requires": (256, lambda n: HEAD + PLAIN + "requires: " + several(
        lambda i: f"p{i}: '>=1'", n, "{}") + "\n"),
    "set": (256, lambda n: HEAD + PLAIN + "set: " + several(
        "_cache_dit_p{}: 1".format, n, "{}") + "\n"),
    "bins": (256, lambda n: HEAD + PLAIN + f"cache: {{scm: {{compute_bins: "
             f"{several(lambda _: '9999', n)}, cache_bins: {several(lambda _: '9999', n)}}}}}\n"),
    "mask": (1000, lambda n: HEAD + PLAIN + "cache: {scm: {mask: "
             + several(lambda i: str(i % 2), n) + "}}\n"),
    "pruned": (1000, lambda n: HEAD + PLAIN + "cache: {non_prune_block_ids: "
               + several(str, n) + "}\n"),
    "cases": (32, lambda n: HEAD + PLAIN + "probe: {cases: " + several(
        "c{}: {{height: 1}}".format, n, "{}") + "}\n"),
    "makes": (16, lambda n: HEAD + PLAIN + "probe: {variants: " + several(
        "v{}: {{needs: [a]}}".format, n, "{}") + "}\n"),
    "description": (2000, lambda n: HEAD + PLAIN + f"description: {'x' * n}\n"),
}  # fmt: skip
#: Of reading, whatever is read.
_OTHERS: Final = 3000


@pytest.fixture
def work_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """The calls that it takes to validate a text, with all that is said of it."""
    monkeypatch.delenv("CACHEDIT_YAML_PATH", raising=False)
    path = tmp_path / "a.yaml"

    def work(text: str) -> int:
        path.write_text(text, encoding="utf-8")
        with contextlib.redirect_stdout(io.StringIO()), counted() as found:
            main(["validate", str(path)])
        return found.calls

    return work


@pytest.mark.parametrize("name", COLLECTIONS)
def test_twice_as_many_cost_twice_the_work(name: str, work_of: Callable[[str], int]) -> None:
    most, made = COLLECTIONS[name]
    work_of(made(most))  # what is read and compiled once
    few, half, whole = (work_of(made(most // part)) for part in (4, 2, 1))
    assert whole - half < 2.5 * (half - few) + _OTHERS, (few, half, whole)


@pytest.mark.parametrize("name", COLLECTIONS)
def test_more_are_refused_and_cost_no_more(name: str, work_of: Callable[[str], int]) -> None:
    most, made = COLLECTIONS[name]
    adapter = Adapter.of(*read_text(made(most), "a.yaml"))
    assert not any(item.code == "wrong-length" for item in adapter.diagnostics)
    for times in (1, 6):
        text = made(times * most + 1)
        found = Adapter.of(*read_text(text, "a.yaml")).diagnostics
        assert any("expected at most" in f"{item.advice}" for item in found), found
        assert work_of(text) < 150_000 + 400 * times * most


def test_comments_that_silence_cost_what_they_are_many(work_of: Callable[[str], int]) -> None:
    def made(n: int) -> str:
        values = "profiles: {p: {lists: " + several("b{}: 1".format, n, "{}") + "}}\n"
        return HEAD + PLAIN + values + "# cachedit-yaml: ignore[CY205] x\n# text\n" * n

    work_of(made(2000))
    half, whole = work_of(made(1000)), work_of(made(2000))
    assert whole < 2.5 * half, (half, whole)
    found = Adapter.of(*read_text(made(5000), "a.yaml"))
    left = apply_ignores([], found.document, {"meaning"})
    assert len(left) == 1000


def unbounded(schema: Any, path: str = "") -> Iterator[str]:
    """Where a schema lets a text, a list or a mapping be of any length."""
    if isinstance(schema, list):
        for index, item in enumerate(schema):
            yield from unbounded(item, f"{path}[{index}]")
    if not isinstance(schema, dict):
        return
    said = schema.get("type")  # or a key of the language that is called so
    kinds = {*said} if isinstance(said, list) else {said if isinstance(said, str) else None}
    chosen = "enum" in schema or "const" in schema
    if "string" in kinds and "maxLength" not in schema and not chosen:
        yield path
    if "array" in kinds and "maxItems" not in schema:
        yield path
    free = schema.get("additionalProperties") is not False
    if "object" in kinds and free and "maxProperties" not in schema and path:
        yield path
    for name, item in schema.items():
        # What `given` and `Whole` demand is laid over what bounds the same places.
        if name not in ("default", "examples", "enum", "then", "Whole", "given"):
            yield from unbounded(item, f"{path}/{name}")


@pytest.mark.parametrize("kind", KINDS)
def test_every_collection_and_every_text_has_a_bound(kind: str) -> None:
    assert list(unbounded(load(kind))) == []


def test_a_pattern_costs_what_a_name_is_long(tmp_path: Path) -> None:
    costs = []
    for stars in (16, 32, 64):
        with counted() as work:
            fits("*a" * stars + "Z", "a" * 200)
        costs.append(work.calls)
    assert costs[2] - costs[1] <= 2 * (costs[1] - costs[0]) + 10


def test_bins_are_cut_before_they_are_written_out() -> None:
    huge = StepMask(compute_bins=(1, 4 * 10**9), cache_bins=(4 * 10**9,))
    assert build_mask(huge, 4, "x") == [1, 0, 0, 0]


def test_a_file_of_a_thousand_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, (_, made) in COLLECTIONS.items():
        (tmp_path / f"{name}.yaml".replace(" ", "-")).write_text(made(1001), encoding="utf-8")
    monkeypatch.setenv("CACHEDIT_YAML_PATH", str(tmp_path))
    with counted() as work, contextlib.suppress(CacheditYamlError):
        Registry.load().match_pipeline("MyOwnVideoDiffusionPipeline")
    with contextlib.redirect_stdout(io.StringIO()), counted() as more:
        assert main(["validate", str(tmp_path)]) == 1
    assert work.calls < 2.5 * 10**6
    assert more.calls < 10**7
