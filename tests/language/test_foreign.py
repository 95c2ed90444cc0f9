"""Files that are no YAML are called what they are; YAML with a mistake is not."""

from __future__ import annotations

import pytest

from cachedit_yaml.yaml.reader import read_text

FOREIGN: dict[str, tuple[str, bytes, str]] = {
    "python": ("a.yaml", b"import torch\n\n\ndef f(a: int):\n    return {'a': 1}\n", "Python"),
    "python that is YAML": ("a.yaml", b"def f(a):\n    return a\n", "Python"),
    "python in another encoding": ("a.py", "# é\nx = 1\n".encode("latin-1"), "Python"),
    "json": ("a.json", b'{\n  "schema": 1, // one\n  "name": "a"\n}\n', "JSON with comments"),
    "json below a comment": ("a.json", b'// one\n{"schema": 1}\n', "JSON with comments"),
    "json block comment": ("a.json", b'/* one */\n[{"schema": 1,}]]\n', "JSON with comments"),
    "json lines": ("a.yaml", b'{"schema": 1}\n{"schema": 1}\n', "JSON Lines"),
    "picture": ("a.yaml", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG picture"),
    "large picture": ("a.yaml", b"\xff\xd8\xff\xe0" + b"\0\1" * 200_000, "a JPEG picture"),
    "weights": (
        "a.yaml",
        b'\x40\0\0\0\0\0\0\0{"a": {"dtype": "F32"}}\0\0',
        "weights (safetensors)",
    ),
    "checkpoint": ("a.yaml", b"PK\x03\x04\0\0\xe9", "a ZIP archive, as torch.save writes it"),
    "binary": ("a.yaml", b"\xe9\x01\x02abcdefghijkl\xff", "binary data"),
    "html": ("a.yaml", b"\n<!DOCTYPE html>\n<html></html>\n", "HTML"),
    "answer": ("a.yaml", b"404: Not Found", "a server's answer"),
    "lfs": (
        "a.yaml",
        b"version https://git-lfs.github.com/spec/v1\noid 1\n",
        "a pointer of Git LFS",
    ),
    "toml": ("a.yaml", b"[tool]\nname = 'a'\n", "TOML"),
    "toml without a table": ("a.yaml", b"schema = 1\n", "TOML"),
    "script": ("a.yaml", b"#!/bin/sh\nset -e\necho\n", "a script"),
    "template": ("a.yaml", b"{{ if .x }}\nschema: 1\n", "a template that was not filled in"),
    "markdown": ("README.md", b"# Title\n\nText: and `more`: yes.\n- a\n", "Markdown"),
    "text": ("a.yaml", b"Once upon a time\nthere was: a block.\n", "text"),
}
YAML: dict[str, bytes] = {
    "a list": b"- schema: 1\n",
    "no colon": b"schema: 1\npipelines [A]\n",
    "never closed": b"name: [a\nimport x\n",
    "latin-1": "schema: 1\ndescription: é\n".encode("latin-1"),
    "utf-16": "schema: 1\n".encode("utf-16"),
    "utf-16 without a mark": "schema: 1\n".encode("utf-16-le"),
    "json": b'{"schema": 1, "models": ["https://x.y/z"]]}',
    "other keys": b"version: 2\nservices: {}\n",
    "empty": b"",
    "a comment": b"# print(1)\n",
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign(case: str) -> None:
    name, content, what = FOREIGN[case]
    document, (found,) = read_text(content, name)
    assert found.code == "not-yaml"
    assert found.message == f"the file holds {what}, not YAML"
    assert document.data is None


@pytest.mark.parametrize("case", YAML)
def test_yaml(case: str) -> None:
    assert "not-yaml" not in [item.code for item in read_text(YAML[case], "a.yaml")[1]]
