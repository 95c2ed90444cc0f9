"""These tests are about what an adapter says by itself; the defaults are tests/language's."""

from __future__ import annotations

import pytest

from cachedit_yaml.language import views
from cachedit_yaml.yaml.document import Document


@pytest.fixture(autouse=True)
def without_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing lie under an adapter."""
    monkeypatch.setattr(views, "defaults_for", lambda *_: Document("defaults.yaml", {}))
