"""Our hooks, through the real pre-commit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import processes

ROOT = Path(__file__).parents[2]
GOOD = "schema: 1\npipelines: [MyPipeline]\ntransformers: {t: {blocks: {b: Pattern_1}}}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository of somebody's with an adapter that has a misspelt key."""
    processes.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "bad.yaml").write_text(GOOD + "refues: x\n")
    processes.run(["git", "add", "."], cwd=tmp_path, check=True)
    return tmp_path


def hook(name: str, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str]:
    """Run one of the hooks of this repository; its exit code and what it prints."""
    command = ["pre-commit", "try-repo", str(ROOT), name, "--all-files"]
    home = tmp_path_factory.getbasetemp() / "pre-commit"  # for both, so that it is made once
    done = processes.run(command, cwd=folder, env={**os.environ, "PRE_COMMIT_HOME": str(home)})
    return done.returncode, done.stdout + done.stderr


def test_the_hook_finds(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    code, out = hook("cachedit-yaml", folder, tmp_path_factory)
    assert code == 1, out
    assert "error[unknown-key]: unknown key 'refues'" in out


def test_the_hook_mends(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    code, out = hook("cachedit-yaml-fix", folder, tmp_path_factory)
    assert code == 1, out  # it changed a file
    assert (folder / "adapters" / "bad.yaml").read_text() == GOOD + "refuse: x\n"
