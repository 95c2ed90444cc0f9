"""The list of reasons to skip a test is true, and what is not on it fails a run."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import processes, skips

ROOT = Path(__file__).parents[1]
REASONED = """
import pytest

@pytest.mark.parametrize("n", [1, 2, 3])
def test_a(n):
    if n == 2:
        pytest.skip("{reason}")
"""


def reasons(node: Any) -> Iterator[str]:
    """What probes say where they cannot be tried."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "skip" and isinstance(value, str):
                yield value
            yield from reasons(value)


def test_probes_give_the_reasons_that_are_listed() -> None:
    files = (ROOT / "adapters").rglob("*.yaml")
    given = {found for path in files for found in reasons(yaml.safe_load(path.read_bytes()))}
    listed = skips.SKIPS | skips.ENGINE_SKIPS
    assert {text for text in given if not any(re.fullmatch(item, text) for item in listed)} == set()
    for pattern in skips.ENGINE_SKIPS:
        assert any(re.fullmatch(pattern, text) for text in given), pattern


def written() -> Iterator[tuple[str, str]]:
    """What tests give as reasons, with their places; what a test puts into one is a zero."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).rpartition(".")[2]
            given = [item.value for item in node.keywords if item.arg == "reason"]
            reason = (given or node.args or [None])[0]
            if name == "importorskip" or (name in ("skip", "skipif") and reason is not None):
                parts = reason.values if isinstance(reason, ast.JoinedStr) else [reason]
                if any(isinstance(part, ast.Constant) for part in parts):
                    shown = [str(x.value) if isinstance(x, ast.Constant) else "0" for x in parts]
                    yield "".join(shown), f"{path.relative_to(ROOT)}:{node.lineno}"


def test_every_reason_that_is_written_is_listed() -> None:
    """Whatever the environment: older and newer releases, engines, other systems."""
    listed = skips.SKIPS | skips.ENGINE_SKIPS | skips.OLDER_SKIPS | skips.ELSEWHERE_SKIPS
    found = dict(written())
    assert len(found) > 10
    del found["0 needs 0"]  # a package of the index, which all environments of the tests have
    assert {
        text: place
        for text, place in found.items()
        if not any(re.fullmatch(item, text) for item in listed)
    } == {}


def test_the_newest_releases_are_those_that_are_installed() -> None:
    pinned = (ROOT / ".ci" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for package, version in skips.NEWEST.items():
        assert any(line.partition(";")[0] == f"{package}=={version}" for line in pinned)


@pytest.mark.parametrize("more", [[], ["-n", "1"]], ids=["here", "in another process"])
@pytest.mark.parametrize(("reason", "code"), [("needs a CUDA device", 0), ("needs numpy", 1)])
def test_a_reason_that_is_not_listed_fails(
    tmp_path: Path, reason: str, code: int, more: list[str]
) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_a.py").write_text(REASONED.format(reason=reason))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *more, str(tmp_path)]
    done = processes.run([*command, "-c", str(ROOT / "pyproject.toml")], cwd=ROOT)
    assert done.returncode == code, done.stdout + done.stderr
    assert ("test_a[2]: needs numpy" in done.stdout) == bool(code)
    assert "2 passed, 1 skipped" in done.stdout
