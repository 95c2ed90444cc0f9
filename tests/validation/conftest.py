"""What the tests of `validate` share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one, and nothing in the environment that says more."""
    monkeypatch.chdir(tmp_path)
    for name in ("CACHEDIT_YAML_PATH", "GITHUB_ACTIONS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path
