"""``--fix`` mends what is safe and leaves every other byte alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from cachedit_yaml.cli import main
from cachedit_yaml.rules.fix import apply_edits
from cachedit_yaml.yaml.diagnostics import Edit, Span
from tests.golden import cases
from tests.permissions import modes_hold

PLACE = ("path", "line", "column", "end_line", "end_column")
WRONG = """\
# A model of ours.
piplines: [QwenImagPipeline]   # the newer one
transformers:
  # its only list
  transformer: {blocks: {transformer_blocks: pattern_1}}
schema: 1   # of the language
cache:
    residual_diff_treshold: '0.1'     # tried on 28 steps
    cfg_compute_first: no
    scm: fst
    max_warmup_steps: 1_0
profiles:
  fast: {lists: {transformer_blocs: {scm: ultra}}}   # cachedit-yaml: ignore[CY205] old
requires: {difusers: '>=0.40'}
"""
RIGHT = """\
# A model of ours.
schema: 1   # of the language
pipelines: [QwenImagePipeline]   # the newer one
transformers:
  # its only list
  transformer: {blocks: {transformer_blocks: Pattern_1}}
cache:
    residual_diff_threshold: 0.1     # tried on 28 steps
    cfg_compute_first: false
    scm: fast
    max_warmup_steps: 10
profiles:
  fast: {lists: {transformer_blocks: {scm: ultra}}}
requires: {diffusers: '>=0.40'}
"""


@pytest.mark.libraries
def test_fix(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = here / "a.yaml"
    path.write_text(WRONG, encoding="utf-8")
    assert main(["validate", "--fix", "a.yaml"]) == 0
    assert path.read_text(encoding="utf-8") == RIGHT
    assert capsys.readouterr().out == "1 file, no problems, 12 mended\n"
    # Once more changes nothing.
    assert main(["validate", "--fix", "a.yaml"]) == 0
    assert path.read_text(encoding="utf-8") == RIGHT
    assert capsys.readouterr().out == "1 file, no problems\n"


@pytest.mark.libraries
def test_no_link_leads_out_of_the_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = here / "adapters"
    mine.mkdir()
    wrong = "schema: 1\npipelines: [A]\nrefues: no\n"
    for name in ("outside.yaml", "adapters/inside.yaml"):
        (here / name).write_text(wrong.replace("[A]", f"[{name[:3]}]"), encoding="utf-8")
    for link, target in (("far", here / "outside.yaml"), ("near", "../outside.yaml")):
        (mine / f"{link}.yaml").symlink_to(target)
    (mine / "beside.yaml").symlink_to("inside.yaml")
    assert main(["validate", "--fix", "adapters"]) == 3
    assert "refues" in (here / "outside.yaml").read_text(encoding="utf-8")
    assert "refues" not in (mine / "inside.yaml").read_text(encoding="utf-8")
    assert (mine / "far.yaml").is_symlink()
    out, err = capsys.readouterr()
    assert "near.yaml: not mended: it is a link out of its folder" in err
    assert "near.yaml:3:1: error[unknown-key]" in out


def test_no_path_through_a_linked_folder_leads_out(
    here: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "a.yaml"
    outside.write_text(WRONG, encoding="utf-8")
    (here / "sub").symlink_to(outside.parent)
    for named in ("sub/a.yaml", "*/a.yaml", "./sub"):
        assert main(["validate", "--fix", named]) == 3
        assert "not mended: it is a link out of its folder" in capsys.readouterr().err
    assert outside.read_text(encoding="utf-8") == WRONG
    assert main(["validate", "--fix", str(here / "sub" / "a.yaml")]) == 0  # named as a whole


def test_line_breaks_mark_mode_and_links_stay(here: Path) -> None:
    path = here / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + WRONG.replace("\n", "\r\n").encode())
    path.chmod(0o640)
    (here / "link.yaml").symlink_to("a.yaml")
    assert main(["validate", "--fix", "link.yaml"]) == 0
    assert path.read_bytes() == b"\xef\xbb\xbf" + RIGHT.replace("\n", "\r\n").encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert (here / "link.yaml").is_symlink()
    assert sorted(item.name for item in here.iterdir()) == ["a.yaml", "link.yaml"]


def test_a_missing_schema_line_is_added_below_the_comments(here: Path) -> None:
    path = here / "a.yaml"
    path.write_text("# x\n\npipelines: [Mine]\nrefuse: for an example\n", encoding="utf-8")
    assert main(["validate", "--fix", "a.yaml"]) == 0
    assert path.read_text() == "# x\n\nschema: 1\npipelines: [Mine]\nrefuse: for an example\n"


def test_json_stays_json(here: Path) -> None:
    path = here / "cache.json"
    path.write_text('{"adapter": "flux", "max_warmup_step": "4"}\n', encoding="utf-8")
    assert main(["validate", "--fix", "cache.json"]) == 0
    assert path.read_text() == '{"adapter": "flux", "max_warmup_steps": 4}\n'


def test_a_key_is_not_mended_into_one_that_is_there(here: Path) -> None:
    path = here / "a.yaml"
    text = "schema: 1\npipelines: [A]\npiplines: [B]\nrefuse: x\n"
    path.write_text(text, encoding="utf-8")
    assert main(["validate", "--fix", "a.yaml"]) == 1
    assert path.read_text() == text


def test_only_the_files_that_are_named_are_changed(here: Path) -> None:
    base = "schema: 1\npipelines: [Base]\ncahce: {scm: fast}\n" \
        "transformers: {t: {blocks: {b: Pattern_1}}}\n"  # fmt: skip
    (here / "base.yaml").write_text(base, encoding="utf-8")
    (here / "a.yaml").write_text("schema: 1\nextends: base.yaml\npiplines: [A]\n", encoding="utf-8")
    assert main(["validate", "--fix", "a.yaml"]) == 1
    assert (here / "base.yaml").read_text() == base
    assert "pipelines: [A]" in (here / "a.yaml").read_text()


def test_stdin_cannot_be_fixed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--fix", "-"]) == 2
    assert "stdin" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = here / "a.yaml"
    path.write_text(WRONG, encoding="utf-8")
    here.chmod(0o555)
    try:
        with modes_hold():
            assert main(["validate", "--fix", "a.yaml"]) == 3
    finally:
        here.chmod(0o755)
    assert path.read_text(encoding="utf-8") == WRONG


def test_what_repeats_the_defaults_goes_and_leaves_nothing_empty(here: Path) -> None:
    head = "schema: 1\npipelines: [A]\ntransformers: {transformer: {blocks: {blocks: Pattern_1}}}\n"
    path = here / "a.yaml"
    path.write_text(
        head + "cache: {Fn_compute_blocks: 1}\n"
        "profiles:\n  quality: {residual_diff_threshold: 0.08}\n"
        "  balanced:\n    residual_diff_threshold: 0.12\n    calibrator: taylorseer\n"
        "engines:\n  sglang: {steps: [], cache: {max_warmup_steps: 4}}\n",
        encoding="utf-8",
    )
    assert main(["validate", "--fix", "a.yaml"]) == 0
    assert path.read_text(encoding="utf-8") == head + "engines:\n  sglang: {}\n"


@pytest.mark.libraries
def test_every_fix_mends_what_it_says() -> None:
    mended = set()
    for path in cases.bad_files():
        case = cases.parse(path.read_bytes(), path.name)
        if "--deep" in case.args:
            continue
        found = cases.findings(case)[0]
        if not found["fix"]:
            continue
        edits = [Edit(Span(*(item[key] for key in PLACE)), item["text"]) for item in found["fix"]]
        (name, content), *_ = case.files.items()
        case.files[name] = apply_edits(content.decode(), edits).encode()
        assert cases.findings(case) == [], path.name
        mended.add(found["code"])
    assert mended >= {
        "unknown-key", "missing-key", "wrong-type", "wrong-value", "key-order", "unknown-name",
        "misspelled-package", "misspelled-class", "config-unknown-key", "config-unknown-adapter",
        "unused-ignore",
    }  # fmt: skip
