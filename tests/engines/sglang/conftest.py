"""These tests need SGLang: ``make test-engines`` runs them in an environment that has it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

collect_ignore_glob = []
if importlib.util.find_spec("sglang") is None:
    collect_ignore_glob.append("test_*.py")


@pytest.fixture(scope="session", autouse=True)
def _plugins() -> None:
    """What SGLang's worker does with plugins before it builds a pipeline."""
    from sglang.multimodal_gen.runtime.platforms.plugins import apply_plugin_hooks, load_plugins

    load_plugins()
    apply_plugin_hooks()


@pytest.fixture(autouse=True)
def _worker(_plugins: None) -> None:
    """The groups that its stages ask for; a test that proves adapters ends them."""
    from cache_dit.caching.block_adapters import FakeDiffusionPipeline

    from cachedit_yaml.engines.sglang.probe import start

    start()
    # cache-dit leaves it there when SGLang's own code has enabled it, once for each process.
    FakeDiffusionPipeline._is_cached = False


@pytest.fixture(autouse=True)
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the user's adapters."""
    folder = tmp_path / "adapters"
    folder.mkdir()
    monkeypatch.setenv("CACHEDIT_YAML_PATH", str(folder))
    return folder
