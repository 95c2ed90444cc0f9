"""docs/add-a-model.md and AGENTS.md are run as they stand."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cachedit_yaml
from cachedit_yaml.cli.main import main
from cachedit_yaml.compiler import own

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "add-a-model.md").read_text(encoding="utf-8")
AGENTS = (ROOT / "AGENTS.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the model, as the current one."""
    shutil.copy(ROOT / "docs" / "my_model.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(own, "_modules", {})
    yield tmp_path
    sys.modules.pop("my_model", None)


def examples(text: str) -> list[tuple[str, str]]:
    """Commands with what they print."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        found += re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    return found


def run(command: str) -> None:
    assert main(shlex.split(command)[1:]) == 0, command


def test_the_page(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    draft, probe = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    commands = examples(PAGE)
    assert len(commands) == 4
    for command, printed in commands:
        if " check " in command:
            path = folder / "my-model.yaml"
            assert path.read_text() == draft
            path.write_text(draft + probe)
        run(command)
        assert capsys.readouterr().out == printed


def test_a_small_pipeline_by_hand() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {"cachedit_yaml": cachedit_yaml}
    exec(program, names)
    assert names["draft"].spec.pipelines == ("FluxPipeline",)


def test_what_assistants_are_told() -> None:
    commands = examples(AGENTS)
    assert len(commands) == 3
    for command, _ in commands:
        run(command)
