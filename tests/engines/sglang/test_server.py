"""SGLang whole: its HTTP server with a small checkpoint on a CPU, and requests that choose."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import processes
from tests.engines import checkpoints

pytestmark = pytest.mark.engines

#: What the checkpoint is, as diffusers says it.
INDEX = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": "0.42.1",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
STATISTICS = re.compile(r"cache of the last request: flux \(loop\): 8 steps, (\d+%) of forwards")
NO_HIT = {"residual_diff_threshold": 0.0}
HITS = {"residual_diff_threshold": 0.9, "max_warmup_steps": 2}
MASK = {"scm": {"preset": "fast", "policy": "static"}, "max_warmup_steps": 0}


class Server:
    def __init__(self, process: subprocess.Popen[str], port: int, log: Path) -> None:
        self.process, self.log = process, log
        self._url = f"http://127.0.0.1:{port}/v1/images/generations"

    def answer(self, params: dict[str, Any] | None, **changes: Any) -> tuple[int, Any]:
        body = {
            "prompt": "a red cat", "size": "64x64", "num_inference_steps": 8, "seed": 0, "n": 1,
            "response_format": "b64_json", "enable_cache_dit": params is not None,
            "cache_dit_params": params, **changes,
        }  # fmt: skip
        request = urllib.request.Request(
            self._url, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )

        def ask() -> tuple[int, Any] | None:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                with urllib.request.urlopen(request) as response:
                    return response.status, json.load(response)
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()
            except OSError:  # it does not listen yet
                return None

        return processes.until(ask, lambda: self.log.read_text()[-3000:])

    def picture(self, params: dict[str, Any] | None, **changes: Any) -> np.ndarray:
        status, answer = self.answer(params, **changes)
        assert status == 200, (answer, self.log.read_text()[-3000:])
        data = base64.b64decode(answer["data"][0]["b64_json"])
        return np.asarray(Image.open(io.BytesIO(data)))


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[Server]:
    """A server with a small FLUX.1, stopped in the end."""
    model, log = checkpoints.build("flux", folder), folder / "log"
    (model / "model_index.json").write_text(json.dumps(INDEX), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name("sglang")), "serve", "--model-path", str(model),
        "--model-id", "FLUX.1-dev", "--backend", "sglang", *arguments,
        "--host", "127.0.0.1", "--port", str(port), "--output-path", str(folder / "out"),
    ]  # fmt: skip
    with log.open("w") as output:
        process = processes.start(command, stdout=output, stderr=output, env=dict(os.environ))
    try:
        yield Server(process, port, log)
    finally:
        processes.end(process)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("sglang")) as server:
        yield server


def test_requests_over_http(server: Server) -> None:
    plain = server.picture(None)
    assert (server.picture(NO_HIT) == plain).all()
    hits = server.picture(HITS)
    mask = server.picture(MASK)
    assert len({item.tobytes() for item in (plain, hits, mask)}) == 3
    assert (server.picture(HITS, seed=1) != hits).any()
    assert (server.picture(HITS) == hits).all()  # whatever came in between
    assert (server.picture(None) == plain).all()
    text = server.log.read_text()
    assert "FluxTransformer2DModel is cached by cachedit-yaml" in text
    assert re.search(r"cache of the last request: flux \(loop\): 8 steps, [1-9]\d*%", text)


def test_what_is_wrong_fails_its_request_alone(server: Server) -> None:
    hits = server.picture(HITS)
    for params, message in (
        ({"residual_diff_treshold": 0.1}, "did you mean 'residual_diff_threshold'"),
        ({"Fn_compute_blocks": 99}, "write at most 4 together"),
        ({"profile": "fasst"}, "has no profile 'fasst'"),
    ):
        status, answer = server.answer(params)
        assert status >= 400
        assert message in str(answer) + server.log.read_text()
        assert (server.picture(HITS) == hits).all()


def test_many_at_once(server: Server) -> None:
    kinds: list[tuple[Any, dict[str, Any]]] = [
        (None, {}), (HITS, {}), (MASK, {}), (HITS, {"num_inference_steps": 5}),
        (HITS, {"seed": 3, "prompt": "a blue dog"}), (HITS, {"size": "96x64"}),
    ]  # fmt: skip
    alone = [server.picture(params, **more) for params, more in kinds]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda kind: server.picture(kind[0], **kind[1]), kinds * 4))
    for index, picture in enumerate(found):
        assert (picture == alone[index % len(kinds)]).all(), kinds[index % len(kinds)]


def test_two_ranks_that_divide_the_sequence_decide_as_one(server: Server, tmp_path: Path) -> None:
    server.picture(HITS)
    server.picture(None)
    (wanted,) = STATISTICS.findall(server.log.read_text())[-1:]
    parallel = ("--num-gpus", "2", "--sp-degree", "2", "--ulysses-degree", "2")
    with serving(tmp_path, *parallel) as two:
        plain = two.picture(None)
        assert (two.picture(NO_HIT) == plain).all()
        assert (two.picture(HITS) != plain).any()
        two.picture(None)
        # Each rank says what it did with both requests.
        assert STATISTICS.findall(two.log.read_text()) == ["0%", "0%", wanted, wanted]
