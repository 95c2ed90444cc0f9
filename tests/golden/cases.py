"""Run `validate` on one golden file or on one example of the catalogue.

A file is taken as it is, byte for byte, unless it begins with one of these lines:

- ``# args: --deep`` adds arguments;
- ``# env: NAME=VALUE`` sets a variable;
- ``# link: NAME`` makes a link that leads nowhere, and checks it;
- ``# file: NAME`` begins a file of several.

``python -m tests.golden.cases`` writes every ``.out`` anew; read the diff before you commit it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cachedit_yaml.cli import main

FOLDER = Path(__file__).parent
_DIRECTIVES = ("# args: ", "# env: ", "# link: ", "# file: ")


@dataclass
class Case:
    """Files to check together, and how."""

    files: dict[str, bytes] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    args: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [*self.links, *self.files]


def parse(content: bytes, name: str) -> Case:
    """Read the directives of a golden file or an example."""
    case = Case()
    current: list[bytes] | None = None
    rest = content
    while rest.startswith(tuple(item.encode() for item in _DIRECTIVES[:3])):
        line, _, rest = rest.partition(b"\n")
        key, _, value = line.decode()[2:].partition(": ")
        if key == "args":
            case.args += value.split()
        elif key == "env":
            variable, _, setting = value.partition("=")
            case.env[variable] = setting
        else:
            case.links.append(value)
    if not rest.startswith(b"# file: "):
        if rest or not case.links:
            case.files[name] = rest
        return case
    for line in rest.splitlines(keepends=True):
        if line.startswith(b"# file: "):
            current = []
            name = line.decode()[len("# file: ") :].strip()
            case.files[name] = b""
        else:
            assert current is not None
            case.files[name] += line
    return case


def run(case: Case, *more: str) -> tuple[int, str]:
    """Run the command as a user does, in an empty folder that holds the files.

    Returns:
        The exit code and what was printed.
    """
    out = io.StringIO()
    with _folder(case), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main(["validate", *case.args, *more, *case.names])
    return code, out.getvalue()


def findings(case: Case) -> list[dict[str, Any]]:
    """Every finding, as the JSON output has it."""
    _, out = run(case, "--format", "json")
    data = json.loads(out)
    return [*data["problems"], *(item for file in data["files"] for item in file["diagnostics"])]


@contextlib.contextmanager
def _folder(case: Case) -> Iterator[None]:
    before, where = dict(os.environ), os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        for name, content in case.files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for name in case.links:
            Path(folder, name).symlink_to("nowhere")
        for name in ("CACHEDIT_YAML_PATH", "GITHUB_ACTIONS", "FORCE_COLOR"):
            os.environ.pop(name, None)
        os.environ.update(case.env)
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(where)
            os.environ.clear()
            os.environ.update(before)


def bad_files() -> list[Path]:
    """The files that are wrong in one way each, named RULE--WHAT.yaml (or .json)."""
    return sorted(p for p in (FOLDER / "bad").iterdir() if p.suffix in (".yaml", ".json"))


def ok_files() -> list[Path]:
    """The files that nothing is wrong with."""
    return sorted(p for p in (FOLDER / "ok").iterdir() if p.suffix in (".yaml", ".json"))


def shown(path: Path) -> str:
    """What `validate` prints for a golden file."""
    return run(parse(path.read_bytes(), path.name))[1]


def update() -> None:
    """Write every ``.out`` anew."""
    for path in bad_files():
        path.with_suffix(".out").write_text(shown(path), encoding="utf-8")


if __name__ == "__main__":
    update()
    sys.stdout.write(f"{len(bad_files())} files\n")
