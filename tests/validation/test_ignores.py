"""Comments that silence findings."""

from __future__ import annotations

import pytest

from tests.golden import cases

HEAD = "schema: 1\npipelines: [MyPipeline]\ntransformers: {t: {blocks: {b: Pattern_1}}}\n"
ZERO = "cache: {max_cached_steps: 0}"


def codes(text: str, *args: str) -> list[str]:
    case = cases.parse(text.encode(), "a.yaml")
    case.args += args
    return [item["code"] for item in cases.findings(case)]


@pytest.mark.parametrize(
    "comment",
    [
        "# cachedit-yaml: ignore[CY205] a reason",
        "# cachedit-yaml: ignore[cy205] a reason",
        "# cachedit-yaml: ignore[never-hits]: a reason",
        "# cachedit-yaml:ignore [ CY205 ] - a reason",
        "#cachedit-yaml: ignore-file[CY205] a reason",
        "# other words  # cachedit-yaml: ignore[CY205] a reason",
    ],
)
def test_forms(comment: str) -> None:
    assert codes(f"{HEAD}{ZERO}  {comment}\n") == []
    assert codes(f"{HEAD}{comment}\n# more\n\n{ZERO}\n") == []


def test_a_comment_holds_for_its_line_only() -> None:
    text = HEAD + "profiles:\n  a: {max_cached_steps: 0}  # cachedit-yaml: ignore[CY205] why\n" \
        "  b: {max_cached_steps: 0}\n"  # fmt: skip
    assert codes(text) == ["never-hits"]
    assert codes(text.replace("ignore[", "ignore-file[")) == []


def test_one_comment_silences_several_rules_and_all_of_a_line() -> None:
    line = "cache: {max_cached_steps: 0, residual_diff_threshold: 0, non_prune_block_ids: [1]}"
    assert codes(f"{HEAD}{line}  # cachedit-yaml: ignore[CY205,ignored] why\n") == []
    assert codes(f"{HEAD}{line}  # cachedit-yaml: ignore[CY205] why\n") == ["ignored"]


def test_findings_of_another_file_are_not_silenced() -> None:
    text = (
        "# file: a.yaml\n# cachedit-yaml: ignore-file[CY205] why\nschema: 1\npipelines: [A]\n"
        f"extends: b.yaml\n# file: b.yaml\n{HEAD}{ZERO}\n"
    )
    # Once in each file, and the comment of the first is of no use.
    assert codes(text) == ["unused-ignore", "never-hits", "never-hits"]


def test_the_ignore_of_a_level_that_did_not_run_is_not_unused() -> None:
    text = HEAD + "# cachedit-yaml: ignore-file[CY407] the default execution keeps it\n"
    assert codes(text) == []


def test_the_text_of_a_value_is_no_comment() -> None:
    assert codes(HEAD + "description: 'a # cachedit-yaml: ignore[CY999] b'\n") == []
    assert codes(HEAD + "description: |\n  # cachedit-yaml: ignore[CY999] b\n") == []


def test_stdin_and_configs_have_ignores_too() -> None:
    text = "cache_config:\n  max_cached_steps: 0  # cachedit-yaml: ignore[CY506] a baseline\n"
    assert codes(text) == []


def test_reports_on_the_comments_themselves() -> None:
    assert codes(f"{HEAD}{ZERO}  # cachedit-yaml: ignore[CY205]\n") == ["ignore-without-reason"]
    assert codes(f"{HEAD}{ZERO}  # cachedit-yaml: ignore[] x\n") == ["never-hits", "unknown-ignore"]
    assert codes(f"{HEAD}oops: 1  # cachedit-yaml: ignore[CY101] x\n") == [
        "unknown-key", "error-ignored"
    ]  # fmt: skip
