"""How messages look: golden examples, positions of the marks, names that are near."""

from __future__ import annotations

import pytest

from cachedit_yaml.cli.rendering import render_in
from cachedit_yaml.cli.validation.formats import json_report
from cachedit_yaml.cli.validation.report import Report
from cachedit_yaml.rules.adapter import Adapter
from cachedit_yaml.yaml.diagnostics import (
    Diagnostic,
    Span,
    did_you_mean,
    format_path,
    nearest,
    one_of,
    show,
)
from cachedit_yaml.yaml.reader import read_text


def render(item: Diagnostic, text: str = "", color: bool = False) -> str:
    """With the line of the only file, where a text is given."""
    return render_in(item, {item.span.path: text} if item.span and text else {}, color)


HEAD = "schema: 1\npipelines: [A]\ntransformers: {t: {blocks: {b: Pattern_1}}}\n"


def rendered(text: str, name: str = "adapters/wan.yaml") -> str:
    adapter = Adapter.of(*read_text(text, name))
    return "\n".join(render_in(item, adapter.sources) for item in adapter.diagnostics)


def test_golden_unknown_key() -> None:
    text = """\
schema: 1
name: wan
pipelines: [WanPipeline]
transformers:
  transformer:
    blocks:
      blocks:
        pattern: Pattern_2
        params:
          Fn_compute_blocks: 1
          max_warmup_steps: 2
          residual_diff_treshold: 0.24
"""
    assert (
        rendered(text)
        == """\
adapters/wan.yaml:12:11: error[unknown-key]: unknown key 'residual_diff_treshold' (CY101)
   12 |           residual_diff_treshold: 0.24
      |           ^^^^^^^^^^^^^^^^^^^^^^ did you mean 'residual_diff_threshold'?"""
    )


def test_golden_duplicate_key() -> None:
    text = "schema: 1\npipelines: [A]\nrefuse: x\npipelines: [B]\n"
    assert (
        rendered(text)
        == """\
adapters/wan.yaml:4:1: error[duplicate-key]: the key 'pipelines' stands here for the second time \
(CY011)
   4 | pipelines: [B]
     | ^^^^^^^^^ keep one of them
     = adapters/wan.yaml:2:1: first here
   2 | pipelines: [A]
     | ---------"""
    )


def test_golden_value() -> None:
    text = HEAD + "cache: {residual_diff_threshold: 1.5}\n"
    assert (
        rendered(text)
        == """\
adapters/wan.yaml:4:34: error[out-of-range]: 'residual_diff_threshold' cannot be 1.5 (CY106)
   4 | cache: {residual_diff_threshold: 1.5}
     |                                  ^^^ expected a number of at least 0 and below 1"""
    )


def test_golden_boolean() -> None:
    text = HEAD + "cache:\n  cfg_compute_first: off\n"
    assert (
        rendered(text)
        == """\
adapters/wan.yaml:5:22: error[wrong-type]: 'cfg_compute_first' is the text 'off' (CY103)
   5 |   cfg_compute_first: off
     |                      ^^^ expected true or false; off is text in YAML 1.2; \
write true or false without quotes"""
    )


def test_golden_syntax() -> None:
    assert (
        rendered("schema: 1\npipelines:[A]\n")
        == """\
adapters/wan.yaml:2:10: error[syntax]: no space after the colon (CY005)
   2 | pipelines:[A]
     |          ^ write 'pipelines: [A]'"""
    )


def test_golden_version() -> None:
    assert (
        rendered("schema: 2\n")
        == """\
adapters/wan.yaml:1:9: error[schema-version]: the file is written for version 2 of the language, \
and this release of cachedit-yaml reads version 1 (CY110)
   1 | schema: 2
     |         ^ install a release that reads version 2: pip install --upgrade cachedit-yaml"""
    )


def test_without_the_text_the_advice_stands_alone() -> None:
    item = Diagnostic("wrong-type", "it is wrong", ("a", 0), Span("f", 3, 1, 3, 2), hint="fix it")
    assert render(item) == "f:3:1: error[wrong-type]: it is wrong (CY103)\n     = fix it"
    assert render(item, "one line") == render(item)


def test_plain_data_is_named_by_its_keys() -> None:
    item = Diagnostic("wrong-type", "it is wrong", ("cache_config", "scm", "mask", 2))
    assert str(item) == "cache_config.scm.mask[2]: error[wrong-type]: it is wrong"
    assert format_path(()) == "adapter"


def test_color_only_when_asked() -> None:
    item = Diagnostic("wrong-type", "wrong", (), Span("f", 1, 1, 1, 3), severity="warning")
    assert "\x1b" not in render(item, "abc")
    colored = render(item, "abc", color=True)
    assert "\x1b[1;33mwarning[wrong-type]\x1b[0m" in colored
    assert "\x1b[1;33m^^\x1b[0m" in colored


def test_marks_stand_below_wide_characters() -> None:
    text = "description: 模型, x: y\n"
    lines = render(Diagnostic("syntax", "m", (), Span("f", 1, 18, 1, 19)), text).split("\n")
    # Two wide characters take two columns each.
    assert lines[2].index("^") - lines[1].index("d") == 17 + 2


def test_a_tab_does_not_move_the_marks() -> None:
    lines = render(Diagnostic("syntax", "m", (), Span("f", 1, 3, 1, 4)), "\t\tx").split("\n")
    assert lines[1].index("x") == lines[2].index("^")


def test_a_long_line_is_cut_around_the_mark() -> None:
    text = "x" * 500 + "HERE" + "y" * 500
    lines = render(Diagnostic("syntax", "m", (), Span("f", 1, 501, 1, 505)), text).split("\n")
    assert len(lines[1]) < 140
    start = lines[2].index("^^^^")
    assert lines[1][start : start + 4] == "HERE"


def test_a_finding_is_plain_data_for_json() -> None:
    span = Span("f", 1, 2, 3, 4)
    found = Diagnostic("conflict", "m", ("a",), span, related=(("there", span),))
    data = json_report.as_data(Report(problems=[found]))["problems"][0]
    assert data["id"] == "CY301"
    assert data["span"] == {"path": "f", "line": 1, "column": 2, "end_line": 3, "end_column": 4}
    assert data["related"][0]["message"] == "there"
    assert data["key_path"] == ["a"]


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("piplines", ["pipelines"]),
        ("Pipelines", ["pipelines"]),
        ("step-split", ["step_split"]),
        ("xyz", []),
    ],
)
def test_nearest(word: str, found: list[str]) -> None:
    assert nearest(word, ["pipelines", "step_split", "name"]) == found


def test_words() -> None:
    assert did_you_mean("xyz", ["name"]) is None
    assert one_of(["a"]) == "a"
    assert one_of(["a", "b", "c"]) == "a, b or c"
    assert show(None) == "null"
    assert show("x" * 500).count("x") < 70

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "Broken" in show(Broken())
