"""The engines' own HTTP servers, in processes of their own."""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from tests import processes

_JSON: Final = {"Content-Type": "application/json"}


class Server:
    """A running server.

    Attributes:
        process: its process.
        log: the file with what it says.
    """

    def __init__(self, process: subprocess.Popen[str], port: int, log: Path) -> None:
        self.process = process
        self.log = log
        self._url = f"http://127.0.0.1:{port}/v1/images/generations"

    def said(self) -> str:
        """What it has said."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def answer(self, **changes: Any) -> tuple[int, dict[str, Any]]:
        """Ask for a picture as soon as the server takes requests: status and answer."""
        request = urllib.request.Request(self._url, _body(changes), _JSON)

        def ask() -> tuple[int, dict[str, Any]] | None:
            assert self.process.poll() is None, self.said()[-3000:]
            try:
                with urllib.request.urlopen(request) as response:
                    return response.status, json.load(response)
            except urllib.error.HTTPError as error:
                return error.code, {"error": error.read().decode()}
            except OSError:  # it does not listen yet
                return None

        return processes.until(ask, lambda: self.said()[-3000:])

    def asked(self, **changes: Any) -> HTTPConnection:
        """Ask for a picture, and wait for nothing; closing the connection aborts the request."""
        url = urlsplit(self._url)
        connection = HTTPConnection(url.netloc)
        connection.request("POST", url.path, _body(changes), _JSON)
        return connection

    def picture(self, **changes: Any) -> np.ndarray:
        """A picture, as numbers."""
        status, answer = self.answer(**changes)
        assert status == 200, (answer, self.said()[-3000:])
        data = base64.b64decode(answer["data"][0]["b64_json"])
        return np.asarray(Image.open(io.BytesIO(data)))

    def memory(self) -> int:
        """Bytes that it and its workers hold."""
        import psutil

        one = psutil.Process(self.process.pid)
        return sum(item.memory_info().rss for item in [one, *one.children(recursive=True)])


def _body(changes: dict[str, Any]) -> bytes:
    body = {
        "prompt": "a red cat", "size": "64x64", "num_inference_steps": 8, "seed": 0,
        "response_format": "b64_json", **changes,
    }  # fmt: skip
    return json.dumps(body).encode()


@contextmanager
def serving(model: Path, log: Path, *arguments: str, config: dict[str, Any]) -> Iterator[Server]:
    """vLLM-Omni with a small model on a CPU, stopped in the end."""
    command = [
        "vllm-omni", "serve", str(model), "--omni", "--enforce-eager", "--dtype", "float32",
        "--cache-backend", "cache_dit", "--cache-config", json.dumps(config), *arguments,
    ]  # fmt: skip
    with running(command, log) as server:
        yield server


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[Server]:
    """A server that takes ``--host`` and ``--port``, stopped in the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = str(Path(sys.executable).with_name(command[0]))
    place = ("--host", "127.0.0.1", "--port", str(port))
    # Other tests of this process silence the engine.
    loud = {"VLLM_LOGGING_LEVEL": "INFO", "VLLM_CONFIGURE_LOGGING": "1"}
    environment = {**os.environ, **loud}
    with log.open("w") as output:
        process = processes.start(
            [program, *command[1:], *place], stdout=output, stderr=output, env=environment
        )
    try:
        yield Server(process, port, log)
    finally:
        processes.end(process)
