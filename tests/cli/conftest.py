"""A folder with a model of somebody's own, for the commands that take one."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cachedit_yaml.compiler import own


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with the model as ``clip_model.py``; what is imported is forgotten."""
    shutil.copy(Path(__file__).with_name("own_model.py"), tmp_path / "clip_model.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(own, "_modules", {})
    yield tmp_path
    for name in ("clip_model", "broken", "needs"):
        sys.modules.pop(name, None)
