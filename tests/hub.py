"""A server that speaks what huggingface_hub asks to download a file, on the loopback interface."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Collection, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class Hub:
    """Repositories, each with its revisions, as a hub serves them.

    Args:
        repos: repository -> commit -> file -> content.
        branches: repository -> branch or tag -> commit.
        gated: repositories that nobody may read.

    Attributes:
        asked: method and path of every request, in order.
    """

    def __init__(
        self,
        repos: Mapping[str, Mapping[str, Mapping[str, bytes]]],
        branches: Mapping[str, Mapping[str, str]],
        gated: Collection[str] = (),
    ) -> None:
        self.repos, self.branches, self.gated = repos, branches, gated
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub._answer(self)

            do_GET = do_HEAD  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it; nothing listens at its address then."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def environ(self, cache: Path, **more: str) -> dict[str, str]:
        """The environment of a process for which this is the hub."""
        wanted = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        wanted.pop("CACHEDIT_YAML_PATH", None)
        address = f"http://127.0.0.1:{self._server.server_address[1]}"
        return {
            **wanted,
            "HF_ENDPOINT": address,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            **more,
        }

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(f"{request.command} {request.path}")
        match = _RESOLVE.fullmatch(request.path)
        repo, revision, file = match.groups() if match else ("", "", "")
        if repo in self.gated:
            _refuse(request, "GatedRepo", status=403)
            return
        if repo not in self.repos:
            _refuse(request, "RepoNotFound")
            return
        commit = self.branches[repo].get(revision, revision)
        if commit not in self.repos[repo]:
            _refuse(request, "RevisionNotFound")
            return
        content = self.repos[repo][commit].get(file)
        if content is None:
            _refuse(request, "EntryNotFound", commit)
            return
        request.send_response(200)
        request.send_header("X-Repo-Commit", commit)
        request.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(content)


def _refuse(
    request: BaseHTTPRequestHandler, code: str, commit: str | None = None, status: int = 404
) -> None:
    request.send_response(status)
    request.send_header("X-Error-Code", code)
    if commit is not None:
        request.send_header("X-Repo-Commit", commit)
    request.send_header("Content-Length", "0")
    request.end_headers()
