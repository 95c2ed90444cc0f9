"""``validate --deep`` on an engine's own sources, for the tests of every engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cachedit_yaml
from cachedit_yaml.engines import find_engine
from cachedit_yaml.rules.deep import check_engine
from cachedit_yaml.rules.sources.packages import Code
from cachedit_yaml.yaml.diagnostics import Diagnostic
from tests.golden import cases

CODE = Code()


def shipped(engine: str) -> dict[str, list[Diagnostic]]:
    """What is found in the adapters that ship for an engine, but for those that refuse."""
    return {
        entry.name: check_engine(
            entry.spec_for(engine), entry.merged(engine), find_engine(engine), CODE
        )
        for entry in cachedit_yaml.list_adapters()
        if entry.kind == "shipped"
        and engine in entry.engines
        and entry.spec_for(engine).refuse is None
    }


def unread(found: dict[str, list[Diagnostic]]) -> dict[str, str]:
    """What could not be read, by adapter; nothing else may have been found."""
    assert all(item.code == "not-checked" for each in found.values() for item in each), found
    return {
        name: item.message.partition("not looked at: ")[2]
        for name, each in found.items()
        for item in each
    }


def findings(text: str) -> list[tuple[str, str, int]]:
    """The errors and warnings of one file: code, message and line."""
    case = cases.Case(files={"a.yaml": text.encode()}, args=["--deep"])
    return [
        (item["code"], item["message"], item["span"]["line"])
        for item in cases.findings(case)
        if item["severity"] != "hint"
    ]


def imported(folder: Path, text: str, packages: list[str]) -> list[str]:
    """Which of the packages a run of the command has imported, in a process of its own."""
    (folder / "a.yaml").write_text(text, encoding="utf-8")
    program = (
        "import json, sys\n"
        "from cachedit_yaml.cli import main\n"
        "code = main(['validate', '--deep', 'a.yaml'])\n"
        "print(json.dumps([code, [x for x in sys.argv[1:] if x in sys.modules]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *packages],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    code, found = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stdout
    return list(found)
