"""Completion, hover and diagnostics in an editor, through the real yaml-language-server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import until

ROOT = Path(__file__).parents[2]
#: What an editor reads that opens this repository.
SETTINGS = json.loads((ROOT / ".vscode" / "settings.json").read_text(encoding="utf-8"))
YAML = {
    "validate": True,
    "hover": True,
    "completion": True,
    "schemaStore": {"enable": False},
    "schemas": SETTINGS["yaml.schemas"],
}


class Editor:
    """As much of a client as the tests need."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.number = 0
        self.diagnostics: dict[str, list[Any]] = {}

    def send(self, method: str, params: Any, number: int | None = None) -> None:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        if number is not None:
            message["id"] = number
        self.write(message)

    def write(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        assert self.process.stdin is not None
        self.process.stdin.write(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        length = 0
        while line := self.process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        message = json.loads(self.process.stdout.read(length))
        if message.get("method") == "textDocument/publishDiagnostics":
            self.diagnostics[message["params"]["uri"]] = message["params"]["diagnostics"]
        elif "method" in message and "id" in message:
            items = message.get("params", {}).get("items", [])
            result = [YAML if item.get("section") == "yaml" else None for item in items]
            self.write({"jsonrpc": "2.0", "id": message["id"], "result": result})
        assert isinstance(message, dict)
        return message

    def ask(self, method: str, params: Any) -> Any:
        self.number += 1
        self.send(method, params, self.number)
        while True:
            message = self.read()
            if message.get("id") == self.number and "method" not in message:
                assert "error" not in message, message
                return message["result"]

    def open(self, name: str, text: str) -> str:
        """Open a text as if it were an adapter of this repository."""
        uri = (ROOT / "adapters" / name).as_uri()
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self.send("textDocument/didOpen", {"textDocument": document})
        while uri not in self.diagnostics:
            self.read()
        return uri

    def at(self, method: str, uri: str, line: int, character: int) -> Any:
        position = {"line": line, "character": character}
        return self.ask(method, {"textDocument": {"uri": uri}, "position": position})


@pytest.fixture(scope="module")
def editor() -> Iterator[Editor]:
    command = ["yaml-language-server", "--stdio"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        client = Editor(process)
        client.ask("initialize", {
            "processId": None, "rootUri": ROOT.as_uri(),
            "capabilities": {"textDocument": {"hover": {"contentFormat": ["markdown"]}}},
        })  # fmt: skip
        client.send("initialized", {})
        # Whereupon it asks for them.
        client.send("workspace/didChangeConfiguration", {"settings": {}})
        yield client
        client.ask("shutdown", None)
        client.send("exit", None)
        until(lambda: process.poll() is not None)


def shipped(name: str) -> str:
    return (ROOT / "adapters" / name).read_text(encoding="utf-8")


def labels(result: Any) -> set[str]:
    items = result["items"] if isinstance(result, dict) else result
    return {item["label"] for item in items}


@pytest.mark.parametrize("name", ["flux.yaml", "cosmos3.yaml", "defaults.yaml", "probes/flux.yaml"])
def test_what_is_shipped_is_fine(editor: Editor, name: str) -> None:
    # Without a first line that names a schema, it is held against the right one.
    uri = editor.open(name, shipped(name) + "nothing: 1\n")
    (found,) = editor.diagnostics[uri]
    assert "nothing" in found["message"]


def test_hover_says_what_a_key_means(editor: Editor) -> None:
    text = shipped("dit.yaml")
    uri = editor.open("hover.yaml", text)
    lines = text.splitlines()
    line = next(i for i, item in enumerate(lines) if item.startswith("cache:"))
    found = editor.at("textDocument/hover", uri, line, lines[line].index("max_warmup_steps") + 3)
    assert "Computed steps at the start" in json.dumps(found)


def test_completion_knows_the_keys(editor: Editor) -> None:
    text = shipped("flux.yaml")
    uri = editor.open("top.yaml", text + "\n")
    end = len(text.splitlines())
    assert {"step_split", "guidance", "requires"} <= labels(
        editor.at("textDocument/completion", uri, end, 0)
    )
    nested = "# yaml-language-server: $schema=../schemas/adapter.v1.schema.json\ncache:\n  \n"
    uri = editor.open("nested.yaml", nested)
    assert {"residual_diff_threshold", "scm", "calibrator"} <= labels(
        editor.at("textDocument/completion", uri, 2, 2)
    )


def test_completion_knows_the_values(editor: Editor) -> None:
    text = "# yaml-language-server: $schema=../schemas/adapter.v1.schema.json\ncache:\n  scm: \n"
    uri = editor.open("values.yaml", text)
    assert {"slow", "medium", "fast", "ultra"} <= labels(
        editor.at("textDocument/completion", uri, 2, 7)
    )


HEAD = "# yaml-language-server: $schema=../schemas/adapter.v1.schema.json\nschema: 1\n"


def test_completion_inside_of_an_engine(editor: Editor) -> None:
    uri = editor.open("engines.yaml", HEAD + "engines:\n  \n")
    found = labels(editor.at("textDocument/completion", uri, 3, 2))
    assert {"diffusers", "cache_dit", "vllm_omni", "sglang"} <= found
    uri = editor.open("section.yaml", HEAD + "engines:\n  vllm_omni:\n    \n")
    found = labels(editor.at("textDocument/completion", uri, 4, 4))
    assert {"pipelines", "refuse", "transformers", "cache"} <= found
    assert not {"schema", "name", "extends", "engines"} & found
    uri = editor.open("deep.yaml", HEAD + "engines:\n  vllm_omni:\n    cache:\n      \n")
    found = labels(editor.at("textDocument/completion", uri, 5, 6))
    assert {"residual_diff_threshold", "measured"} <= found


def test_what_is_left_out_is_marked_where_nothing_is_inherited(editor: Editor) -> None:
    part = "transformers: {t: {blocks: {b: {params: {scm: fast}}}}}\nstep_split: ~\n"
    uri = editor.open("whole.yaml", HEAD + part)
    messages = [item["message"] for item in editor.diagnostics[uri]]
    assert any("pattern" in message for message in messages)
    assert any("null could take away" in message for message in messages)
    uri = editor.open("part.yaml", HEAD + "extends: x\n" + part)
    assert editor.diagnostics[uri] == []


def test_a_wrong_form_is_marked_in_our_words(editor: Editor) -> None:
    uri = editor.open("form.yaml", HEAD + "name: my adapter\n")
    (found,) = editor.diagnostics[uri]
    assert found["message"] == "expected a name of letters, digits, '.', '_' and '-'"


def test_a_misspelt_key_is_marked(editor: Editor) -> None:
    uri = editor.open("wrong.yaml", shipped("flux.yaml") + "piplines: [A]\n")
    assert any("piplines" in item["message"] for item in editor.diagnostics[uri])
