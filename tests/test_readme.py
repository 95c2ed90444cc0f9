"""What the README says is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import cachedit_yaml
from benchmarks import pages
from cachedit_yaml.cli.main import main
from cachedit_yaml.engines import find_engine
from cachedit_yaml.registry.registry import Registry
from cachedit_yaml.rules.load import load_adapter
from docs.site.figure import FIGURE, KEPT, LABELS, draw, rows

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
LANGUAGE = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")


def yaml_examples(text: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)


def test_the_table_counts_the_classes_of_each_engine() -> None:
    table = README.split("<!-- engines -->")[1].split("<!-- /engines -->")[0]
    rows = re.findall(r"\| \[([\w-]+)\]\S+ \| (\d+) \| (\d+) \|", table)
    said = {row[0]: row[1:] for row in rows}
    shipped = [entry for entry in Registry.load(environ={}).adapters() if entry.kind == "shipped"]
    for engine in ("diffusers", "vllm_omni", "sglang"):
        classes: dict[bool, set[str]] = {False: set(), True: set()}
        for entry in shipped:
            if engine in entry.engines:
                spec = entry.spec_for(engine)
                classes[spec.refuse is not None] |= set(spec.pipelines)
        counts = (str(len(classes[False])), str(len(classes[True])))
        assert said[find_engine(engine).title] == counts
    assert f"{len(shipped)} adapters" in README


@pytest.mark.parametrize("path", pages.PAGES, ids=lambda path: path.name)
def test_the_tables_of_quality_are_the_output_that_is_kept(path: Path) -> None:
    said = path.read_text(encoding="utf-8")
    assert "<!-- /" in said
    assert pages.render(said) == said


def test_the_figure_is_drawn_from_the_output_that_is_kept() -> None:
    kept = KEPT.read_text(encoding="utf-8")
    found = rows(kept)
    assert len(found) > 20
    assert FIGURE.read_text(encoding="utf-8") == draw(kept)
    drawn = [name for name, *_ in found if name.partition(":")[0] in LABELS]
    assert len(drawn) > 60
    assert draw(kept).count("<circle") == len(drawn) + draw(kept).count("<g ")
    assert draw(kept.replace(f" {found[0][2]} ", " 99.0 ", 1)) != draw(kept)


def test_what_the_commands_take_is_the_output_that_is_kept() -> None:
    kept = (ROOT / "benchmarks" / "results" / "startup-cpu.txt").read_text(encoding="utf-8")
    rows = re.findall(r"^(\S.*?) +([\d.]+) +([\d.]+)$", kept, re.MULTILINE)
    made = {name: median for name, median, _ in rows}
    ours = [median for name, median in made.items() if name.startswith("cachedit-yaml ")]
    assert len(ours) > 12
    page = (ROOT / "docs" / "validate.md").read_text(encoding="utf-8").partition("## How fast")[2]
    said = re.findall(r"([\d.]+) s\b", page.split("\n\n")[0])
    others = [made["check-jsonschema adapters/*.yaml"]]
    assert said == [max(ours), *others, made["ruff check --no-cache cachedit_yaml/"]]


def test_the_finding_on_the_page_of_validate_is_what_validate_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "validate.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```\n(cache\.yaml:.*?)```", page, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    text = "cache_config:\n  Fn_compute_blocks: 1\n  enable_sperate_cfg: true\n"
    Path("cache.yaml").write_text(text, encoding="utf-8")
    assert main(["validate", "cache.yaml"]) == 1
    assert shown in capsys.readouterr().out


def test_the_tutorial_is_a_valid_adapter_of_six_lines() -> None:
    (tutorial,) = yaml_examples(README)
    assert len(tutorial.strip().splitlines()) == 7  # one is for the editor
    spec = load_adapter(tutorial)
    assert spec.pipelines == ("MyPipeline",)
    assert list(spec.profiles) == ["quality", "balanced", "fast"]


@pytest.mark.parametrize("example", yaml_examples(LANGUAGE))
def test_every_example_of_the_language_page_is_valid(example: str) -> None:
    whole = example
    if "transformer_2" in example and "transformers:" not in example:
        whole += (
            "transformers:\n"
            "  transformer: {blocks: {blocks: Pattern_2}}\n"
            "  transformer_2: {blocks: {blocks: Pattern_2}}\n"
        )
    elif example.startswith("blocks:"):
        whole = "transformers:\n  transformer:\n" + "".join(
            f"    {line}\n" for line in example.splitlines()
        )
    elif "transformers:" not in example and "refuse:" not in example:
        whole += "transformers: {transformer: {blocks: {blocks: Pattern_2}}}\n"
    if "schema:" not in whole:
        whole = "schema: 1\npipelines: [AnyPipeline]\n" + whole
    load_adapter(whole)


def test_every_exported_name_exists_and_is_documented() -> None:
    for name in cachedit_yaml.__all__:
        assert getattr(cachedit_yaml, name) is not None
    assert list(cachedit_yaml.__all__) == sorted(cachedit_yaml.__all__)
    for name in ("enable", "enable_transformer", "load_adapter", "list_adapters"):
        assert getattr(cachedit_yaml, name).__doc__
