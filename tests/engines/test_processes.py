"""Other processes: workers of the mp executor, and the server over HTTP."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.doors.test_engines_page import SNIPPETS
from tests.engines import checkpoints, server
from tests.engines.engine import Engine, running

pytestmark = pytest.mark.engines

#: The steps of random weights differ much.
HITS = {"residual_diff_threshold": 0.9, "max_warmup_steps": 2, "calibrator": None}
CONFIG = {"adapter": "flux", **HITS}
STATISTICS = re.compile(r"cache of the last request: flux \(loop\): 8 steps, (\d+%) of forwards")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.build("flux", tmp_path_factory.mktemp("checkpoints"))


def test_workers_of_their_own_and_several_engines(model: Path) -> None:
    """The config reaches the workers, and engines side by side do not disturb each other."""
    mp = {"distributed_executor_backend": "mp", "cache_backend": "cache_dit"}
    with running("flux", model, cache_backend="cache_dit", cache_config=CONFIG) as here:
        wanted = here.generate()
        assert here.handle.stats().hit_ratio > 0
        with running("flux", model, **mp, cache_config=CONFIG) as there:
            assert there.runner is None
            assert (there.generate() == wanted).all()
            assert (here.generate() == wanted).all()
            assert (there.generate() == wanted).all()
    with running("flux", model, **mp, cache_config={**CONFIG, "residual_diff_threshold": 0.0}) as e:
        assert not (e.generate() == wanted).all()


def test_the_server(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As the page says, with a small model on a CPU.
    program, serve, _, *page = shlex.split(SNIPPETS["vLLM-Omni", "sh"].replace("\\\n", ""))
    place = page.index("--cache-config") + 1
    config = {**json.loads(page[place]), **HITS}
    page[place] = json.dumps(config)
    monkeypatch.setenv("CACHE_DIT_LOG_LEVEL", "info")
    command = [program, serve, str(model), *page, "--enforce-eager", "--dtype", "float32"]
    with server.running(command, tmp_path / "server.log") as found:
        picture = found.picture(guidance_scale=3.5)
        text = found.said()
    assert picture.shape == (64, 64, 3)
    assert "cachedit-yaml serves" in text
    assert "FluxTransformer2DModel (transformer.single_transformer_blocks)" in text
    with running("flux", model, cache_backend="cache_dit", cache_config=config) as engine:
        assert (engine.generate()[0] == picture).all()
        stats = engine.handle.stats()
    # Our statistics, and cache-dit's summary of the same.
    assert stats.hit_ratio > 0
    assert STATISTICS.findall(text) == [f"{stats.hit_ratio:.0%}"]
    for row in stats.branches:
        assert f"Cache Steps: {len(row.cached_steps)}, {list(row.cached_steps)}" in text


def run_snippet(names: dict[str, Any]) -> dict[str, Any]:
    """Run the page's Python with these names given."""
    exec(SNIPPETS["vLLM-Omni", "python"], names)
    return names


def test_the_page(tmp_path: Path) -> None:
    """The page's Python starts the engine with the adapter, profile and settings that it names."""
    from vllm_omni import Omni

    place = checkpoints.build("wan_two", tmp_path)

    def small(model: str, **arguments: Any) -> Any:
        assert "/" in model
        return Omni(str(place), enforce_eager=True, dtype="float32", **arguments)

    engine = Engine("wan_two", lambda: run_snippet({"Omni": small})["omni"])
    try:
        engine.generate(num_inference_steps=20)
        plan = engine.handle.plan
        assert plan.spec.name == "wan"
        text = engine.handle.explain()
        assert re.search(r"residual_diff_threshold +0\.2 ", text)
        assert "profile fast" in text
        assert len(engine.handle.stats().branches) == 4
    finally:
        engine.close()
