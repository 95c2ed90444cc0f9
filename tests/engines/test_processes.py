"""Other processes: workers of the mp executor, and the server over HTTP."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import processes
from tests.doors.test_engines_page import SNIPPETS
from tests.engines import checkpoints
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


def test_the_server(model: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "server.log"
    # As the page says, with a small model on a CPU.
    program, serve, _, *page = shlex.split(SNIPPETS["vLLM-Omni", "sh"].replace("\\\n", ""))
    place = page.index("--cache-config") + 1
    config = {**json.loads(page[place]), **HITS}
    page[place] = json.dumps(config)
    command = [
        str(Path(sys.executable).with_name(program)), serve, str(model), *page,
        "--host", "127.0.0.1", "--port", str(port), "--enforce-eager", "--dtype", "float32",
    ]  # fmt: skip
    environment = {**os.environ, "VLLM_LOGGING_LEVEL": "INFO", "CACHE_DIT_LOG_LEVEL": "info"}
    with log.open("w") as output:
        server = processes.start(command, stdout=output, stderr=output, env=environment)
    try:
        body = {
            "prompt": "a red cat", "size": "64x64", "num_inference_steps": 8, "seed": 0,
            "guidance_scale": 3.5, "response_format": "b64_json",
        }  # fmt: skip
        answer = ask(server, f"http://127.0.0.1:{port}/v1/images/generations", body, log)
        picture = Image.open(io.BytesIO(base64.b64decode(answer["data"][0]["b64_json"])))
        assert picture.size == (64, 64)
        text = log.read_text(encoding="utf-8", errors="replace")
        assert "cachedit-yaml serves" in text
        assert "FluxTransformer2DModel (transformer.single_transformer_blocks)" in text
    finally:
        processes.end(server)
    with running("flux", model, cache_backend="cache_dit", cache_config=config) as engine:
        assert (engine.generate()[0] == np.asarray(picture)).all()
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


def ask(server: subprocess.Popen[str], url: str, body: dict[str, object], log: Path) -> dict:
    """Post a request as soon as the server takes it."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )

    def answer() -> dict | None:
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(request) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode() + log.read_text()[-3000:]) from error
        except OSError:  # it does not listen yet
            return None

    return processes.until(answer, lambda: log.read_text()[-3000:])
